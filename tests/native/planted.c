/* Faults on purpose, to see that each sanitizer finds its own: a check that cannot fail proves nothing.
 *
 * Argument: race, heap or overflow. */
#include "testing.h"

static uint64_t shared_without_order;

static void race(worker *w) {
    meet();
    for (int i = 0; i < 1000; i++)
        shared_without_order += w->number;
}

int main(int argc, char **argv) {
    const char *fault = argc > 1 ? argv[1] : "";
    if (strcmp(fault, "race") == 0) {
        run_workers(2, 1, NULL, NULL, race);
    } else if (strcmp(fault, "heap") == 0) {
        char *bytes = (char *)malloc((size_t)argc);
        if (!bytes)
            return 1;
        bytes[argc] = 1; /* one past the end */
        printf("%d\n", bytes[argc]);
        free(bytes);
    } else if (strcmp(fault, "overflow") == 0) {
        int most = 2147483647;
        printf("%d\n", most + argc);
    }
    return 0;
}
