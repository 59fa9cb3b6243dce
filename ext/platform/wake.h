/* Waking another thread from a decision: a byte into a pipe or socket that does not block. Nobody waits here. */
#ifndef PENSTOCK_WAKE_H
#define PENSTOCK_WAKE_H

#if defined(_WIN32)
#define PS_CAN_WAKE 0
static inline void ps_wake(int fd) { (void)fd; }
#else
#define PS_CAN_WAKE 1
#include <unistd.h>
/* A pipe that is full has woken its reader already; one that is closed has none. */
static inline void ps_wake(int fd) {
    if (write(fd, "", 1) < 0)
        return;
}
#endif

#endif
