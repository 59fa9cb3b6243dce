/* Who decides on a segment: every limiter that has mapped it has a seat, and gets it back only by dying or leaving.
 *
 * A seat is held by a lock on one byte of the file, at PS_SEAT_BYTE + its number, beyond the file's end: an "open file description"
 * lock, which the system takes away when the last copy of the descriptor is gone, however its process ended, and which no reused
 * process number can imitate. (Not inherited: a forked child closes the descriptor and takes a seat of its own.) Whoever gets the lock
 * of a seat that is still marked as taken knows that its holder is dead, and that nobody else is clearing up after it.
 *
 * The mapping is of another description, because it keeps that open, too, and a forked child has the parent's mapping.
 *
 * No decision waits for these locks. They are tried when a segment is opened, and now and then by a caller that was refused. */
#ifndef PENSTOCK_SEATS_H
#define PENSTOCK_SEATS_H

#include "../platform/atomics.h"
#include "../platform/bell.h"
#include "../stats/cells.h"

#define PS_SEATS_MOST 128
#define PS_SEAT_WORDS (PS_SEATS_MOST / 2) /* what each seat holds of a key: two counts in a word (holds.h) */
#define PS_NO_SEAT PS_SEATS_MOST
#define PS_SEAT_BYTE (INT64_C(1) << 40)
#define PS_OPEN_BYTE (PS_SEAT_BYTE - 1) /* locked by who puts a new segment in a stale one's place */
#define PS_LEAD_BYTE (PS_SEAT_BYTE - 2) /* locked by who exchanges with Redis for all */
#define PS_BELLS 64

/* Cells of a segment: PS_CELL_SHARED is everybody's, one for each seat's Python, and some for other threads. */
#define PS_SPARE_CELLS 63
#define PS_SEGMENT_CELLS (1 + PS_SEATS_MOST + PS_SPARE_CELLS)
_Static_assert(PS_SEGMENT_CELLS <= PS_NONCE_CELLS, "the number of a cell is part of a claim's nonce");

#define PS_SEAT_WAITS 8 /* keys that the callers of a seat wait for, of which the leader is told */
#define PS_FORGETS 64   /* keys to be made as good as new everywhere, of which it was not told yet */

typedef struct {
    ps_word fingerprint, units;
} ps_wait;

typedef struct {
    ps_word taken;    /* 0: free; else the time at which it was taken, plus 1, in ns of the segment */
    ps_word pid;      /* as its own namespace has it; for people */
    ps_word transit;  /* calls that are between the two halves of taking or giving back (holds.h) */
    ps_word listens;  /* 1: counted among the listeners */
    ps_word pad[4];
} ps_seat;

_Static_assert(sizeof(ps_seat) == PS_CACHE_LINE, "two seats share no cache line");

/* What all processes share beside cells, tables and tails. All zero is how it begins. */
typedef struct {
    ps_word latest_ns; /* of a clock that can't be asked in C: the latest time it gave anyone */
    ps_word looked_ns; /* when dead seats were last looked for */
    ps_word rung;      /* the bell that listeners sleep on */
    ps_word listeners;
    ps_word asked;     /* the bell that who exchanges with Redis sleeps on (host.h) */
    ps_word pad[3];
    ps_word bells[PS_BELLS]; /* how often units of keys of this number (fingerprint % PS_BELLS) were given back while somebody listened */
    ps_word spare_owners[PS_SPARE_CELLS + 1]; /* the seat, plus 1, that has a spare cell */
    ps_seat seats[PS_SEATS_MOST];
    ps_wait waits[PS_SEATS_MOST][PS_SEAT_WAITS];
    ps_word forgets[PS_FORGETS];
} ps_commons;

_Static_assert(sizeof(ps_commons) % PS_CACHE_LINE == 0, "what follows begins on a cache line");

/* Cell numbers: those below PS_SEATS_MOST + 1 but PS_CELL_SHARED are the seats', then come the spare ones. */
static inline uint32_t ps_seat_cell(uint32_t seat) { return seat < PS_CELL_SHARED ? seat : seat + 1; }
static inline uint32_t ps_spare_cell(uint32_t spare) { return PS_SEATS_MOST + 1 + spare; }

/* A cell that only the asking thread of this seat adds to, or the one that everybody shares. Ends: a failed exchange has seen another
 * thread take the cell, and there are PS_SPARE_CELLS. */
PS_APART uint32_t ps_spare_take(ps_commons *commons, uint32_t seat) {
    for (uint32_t spare = 0; spare < PS_SPARE_CELLS; spare++) {
        uint64_t nobody = 0;
        if (ps_exchange_if_equal(&commons->spare_owners[spare], &nobody, seat + 1))
            return ps_spare_cell(spare);
    }
    return PS_CELL_SHARED;
}

#if defined(__linux__) && !defined(PENSTOCK_MODEL)
#define PS_CAN_SHARE 1
#include <fcntl.h>
#if !defined(F_OFD_SETLK) /* without _GNU_SOURCE; as the kernel numbers them on every architecture */
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#endif
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static inline bool ps_byte_lock(int fd, int64_t byte, short type) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}
/* True while somebody has the byte, other than through this descriptor. */
static inline bool ps_byte_locked(int fd, int64_t byte) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}
static inline bool ps_seat_lock(int fd, uint32_t seat) { return ps_byte_lock(fd, PS_SEAT_BYTE + seat, F_WRLCK); }
static inline void ps_seat_unlock(int fd, uint32_t seat) { ps_byte_lock(fd, PS_SEAT_BYTE + seat, F_UNLCK); }
static inline void ps_close(int fd) { close(fd); }
/* Another description of the same file; -1 where that cannot be had. */
static inline int ps_reopen(int fd, bool look_only) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, (look_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
}
/* True when the file has lost its name: who opens that name from now on gets another file. */
static inline bool ps_nameless(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 && found.st_nlink == 0;
}
#else
static inline bool ps_nameless(int fd) { return (void)fd, false; }
static inline void ps_close(int fd) { (void)fd; }
static inline int ps_reopen(int fd, bool look_only) { return (void)fd, (void)look_only, -1; }
#define PS_CAN_SHARE 0
static inline bool ps_byte_locked(int fd, int64_t byte) { return (void)fd, (void)byte, false; }
static inline bool ps_seat_lock(int fd, uint32_t seat) { return (void)fd, (void)seat, false; }
static inline void ps_seat_unlock(int fd, uint32_t seat) { (void)fd, (void)seat; }
#endif

/* Gives back what a seat has beside units: for who has its lock, after its holder is gone or when it goes. */
static inline void ps_seat_clear(ps_commons *commons, uint32_t seat) {
    ps_seat *left = &commons->seats[seat];
    for (uint32_t spare = 0; spare < PS_SPARE_CELLS; spare++)
        if (ps_load_relaxed(&commons->spare_owners[spare]) == seat + 1)
            ps_store_release(&commons->spare_owners[spare], 0);
    uint64_t listens = 1;
    if (ps_exchange_if_equal(&left->listens, &listens, 0))
        ps_add_seq(&commons->listeners, UINT64_MAX);
    for (unsigned i = 0; i < PS_SEAT_WAITS; i++)
        ps_store_relaxed(&commons->waits[seat][i].units, 0);
    ps_store_relaxed(&left->transit, 0);
    ps_store_relaxed(&left->pid, 0);
    ps_store_release(&left->taken, 0);
}

/* Wakes whoever waits for this key in any process. To be called after units were given back: the exchange that did so and this load
 * are sequentially consistent, as is the listener's count and its look at the key after it, so one of the two sees the other. */
static inline void ps_ring(ps_commons *commons, uint64_t fingerprint) {
    if (ps_load_seq(&commons->listeners)) {
        ps_add_seq(&commons->bells[fingerprint % PS_BELLS], 1);
        ps_bell_ring(&commons->rung);
    }
}

#endif
