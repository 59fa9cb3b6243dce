/* Lets a Python program end a section of a callgrind run: what was executed since the last mark is written to a file of
 * its own, with this name. Outside valgrind it does nothing.
 *
 *     cc -shared -fPIC -o callgrind.so callgrind.c */
#include <valgrind/callgrind.h>

void penstock_mark(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
