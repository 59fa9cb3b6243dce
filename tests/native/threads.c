/* platform/thread.h: a number of its own for each living thread, given back when it ends, a shared one past the end.
 *
 * Arguments: threads at a time, generations. */
#include "testing.h"

static ps_word holders[PS_THREAD_MOST + 2]; /* living threads that hold each number */
static uint64_t generation_count;

static void hold(uint64_t number) {
    CHECK(number >= 1 && number <= PS_THREAD_MOST + 1, "number %llu", (unsigned long long)number);
    uint64_t others = ps_add_relaxed(&holders[number], 1);
    CHECK(others == 0 || number == PS_THREAD_MOST + 1, "number %llu is held by two threads", (unsigned long long)number);
}

static void body(worker *w) {
    uint64_t number = ps_thread_number();
    hold(number);
    for (int i = 0; i < 100; i++)
        CHECK(ps_thread_number() == number, "a thread's number changed in thread %u", w->number);
    meet(); /* all are alive here */
    ps_add_relaxed(&holders[number], (uint64_t)-1);
}

/* Threads that come and go all the time, each on its own. */
static void *brief(void *unused) {
    (void)unused;
    uint64_t number = ps_thread_number();
    hold(number);
    sched_yield();
    ps_add_relaxed(&holders[number], (uint64_t)-1);
    return NULL;
}
static void body_that_starts_others(worker *w) {
    for (uint64_t i = 0; i < generation_count; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, brief, NULL) == 0, "cannot start a thread from %u", w->number);
        pthread_join(thread, NULL);
    }
}

static pthread_key_t late_key;
static void late(void *unused) { /* a destructor that runs after thread.h's may still decide */
    (void)unused;
    uint64_t number = ps_thread_number();
    CHECK(number >= 1 && number <= PS_THREAD_MOST + 1, "number %llu in a thread that ends", (unsigned long long)number);
}
static void body_with_late_call(worker *w) {
    pthread_setspecific(late_key, w);
    ps_thread_number();
}

int main(int argc, char **argv) {
    unsigned threads = (unsigned)argument_number(argc, argv, 1, PS_THREAD_MOST + 10);
    generation_count = argument_number(argc, argv, 2, 50);
    CHECK(ps_thread_setup(), "no thread-specific storage");
    CHECK(pthread_key_create(&late_key, late) == 0, "no thread-specific storage"); /* made later: its destructor runs later */
    CHECK(ps_thread_number() == 1 && ps_thread_number() == 1, "the first thread's number is %llu", (unsigned long long)ps_thread_number());
    for (uint64_t i = 0; i < 5; i++) {
        run_workers(threads, i, NULL, NULL, body);
        CHECK(ps_load_acquire(&ps_threads_taken) == 2, "numbers were not given back: %llx", (unsigned long long)ps_load_acquire(&ps_threads_taken));
    }
    run_workers(PS_THREAD_MOST - 1, 1, NULL, NULL, body); /* as many as there are, beside this thread */
    CHECK(ps_load_acquire(&ps_threads_taken) == 2, "numbers were not given back");
    run_workers(8, 1, NULL, NULL, body_that_starts_others);
    run_workers(8, 1, NULL, NULL, body_with_late_call);
    CHECK(ps_load_acquire(&ps_threads_taken) == 2, "numbers were not given back: %llx", (unsigned long long)ps_load_acquire(&ps_threads_taken));
    ps_store_relaxed(&ps_threads_taken, 0xfe);
    ps_thread_after_fork(); /* in a child only this thread is left */
    CHECK(ps_load_acquire(&ps_threads_taken) == 2, "a child does not keep its own number alone");
    return 0;
}
