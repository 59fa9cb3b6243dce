/* What the measured costs are compared with, as an extension module: the least a call into C can cost, an
 * uncontended compare-exchange, and a read of the system's clock. Built by the benchmarks themselves. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <time.h>

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* ---- Nothing().hit(key) ---- */

static PyObject *nothing_hit(PyObject *self, PyObject *key) {
    (void)self, (void)key;
    Py_RETURN_TRUE;
}

static PyMethodDef nothing_methods[] = {
    {"hit", nothing_hit, METH_O, "Takes one argument and answers True."},
    {0},
};

static PyTypeObject Nothing = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "floors.Nothing",
    .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_methods = nothing_methods,
};

/* ---- loops of `count`; nanoseconds for one ---- */

static PyObject *exchanges(PyObject *self, PyObject *count) {
    static _Alignas(64) _Atomic uint64_t word;
    long long times = PyLong_AsLongLong(count);
    if (times <= 0)
        return PyErr_Occurred() ? NULL : (PyErr_SetString(PyExc_ValueError, "count must be positive"), NULL);
    (void)self;
    double start = now_ns();
    for (long long i = 0; i < times; i++) {
        uint64_t seen = atomic_load_explicit(&word, memory_order_relaxed);
        atomic_compare_exchange_strong(&word, &seen, seen + 1);
    }
    return PyFloat_FromDouble((now_ns() - start) / (double)times);
}

static PyObject *clock_reads(PyObject *self, PyObject *count) {
    long long times = PyLong_AsLongLong(count);
    if (times <= 0)
        return PyErr_Occurred() ? NULL : (PyErr_SetString(PyExc_ValueError, "count must be positive"), NULL);
    (void)self;
    double start = now_ns();
    for (long long i = 0; i < times; i++)
        (void)now_ns();
    return PyFloat_FromDouble((now_ns() - start) / (double)times);
}

static PyMethodDef functions[] = {
    {"exchanges", exchanges, METH_O, "exchanges(count) -> ns for one uncontended 8-byte compare-exchange."},
    {"clock_reads", clock_reads, METH_O, "clock_reads(count) -> ns for one clock_gettime(CLOCK_MONOTONIC)."},
    {0},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "floors", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit_floors(void) {
    PyObject *made = PyModule_Create(&module);
    if (made && PyModule_AddType(made, &Nothing) < 0)
        Py_CLEAR(made);
    return made;
}
