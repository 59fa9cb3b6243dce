/* Processes that share a segment and are killed at random instructions.
 *
 *   segment PROCESSES KILLS SEED
 *
 * Each process takes and gives back units of a few Concurrency keys and spends from one token bucket, in a tight loop, until it is
 * killed; another takes its place. What must hold:
 *
 *   - never more than the limit is held: who takes a unit also takes one of as many tokens of the test's own, which at any instant are not
 *     all others', and holds both for some time;
 *   - a kill leaves at most one decision uncounted: what the bucket has spent is what processes say they were given, and one for each kill;
 *   - nothing is stuck: when all are dead and cleared up after, every count is 0 and every seat is free. */
#define _GNU_SOURCE
#include "testing.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if !PS_CAN_SHARE
int main(void) { return 0; }
#else

#define KEYS 3
#define HELD_MOST 2
#define BURST UINT64_C(1000000000) /* and one more each second */
#define SECOND UINT64_C(1000000000)
#define LIVES_MOST 100000
#define SCANS 300  /* of the tokens: others' calls may take the free one away from before the eye so often */
#define DYING 1
#define DEAD 2
#define AROUND 200 /* kills between two looks at the whole */

typedef struct {
    ps_word tokens[KEYS][HELD_MOST]; /* the life, plus 1, that has it */
    ps_word ends[LIVES_MOST];        /* DYING: this life is to end; DEAD: it has */
    ps_word spent[LIVES_MOST];       /* decisions that were answered with yes */
    ps_word wrong;                   /* a unit was taken and no token was to be had */
} notes;

static notes *book;
static int file;

static uint64_t now_ns(void) { return ps_clock_system(); }

static void attach(ps_limiter *limiter, uint64_t pid) {
    static const uint64_t words[2] = {PS_SEAT_WORDS, 0};
    static ps_clock clock;
    ps_policy policies[2] = {{.algorithm = PS_CONCURRENCY, .limit = HELD_MOST, .count_bits = 32}, make_bucket(1, SECOND, BURST)};
    memset(limiter, 0, sizeof *limiter);
    memset(&clock, 0, sizeof clock);
    limiter->fd = ps_reopen(file, false);
    CHECK(limiter->fd >= 0 && ps_limiter_attach(limiter, 0, 64, words, 2, false, false), "no segment");
    limiter->clock = &clock;
    limiter->tier_count = 1;
    ps_install(limiter, 0, policies);
    CHECK(ps_seat_take(limiter, pid, now_ns()), "no seat");
}

static ps_caller self(ps_limiter *limiter) { return ps_caller_numbered(limiter, PS_CELL_GIL); }

static bool take(ps_limiter *limiter, unsigned which, uint64_t key) {
    return ps_take(limiter, &limiter->limits[which], ps_policy_now(limiter, &limiter->limits[which], 0), key, now_ns(), 1, self(limiter), 0, 0) ==
           PS_ADMITTED;
}

/* A token that is free or was a dead life's. While a life is dying, its unit may be back before its token is. */
static ps_word *token_for(uint64_t key, uint64_t life) {
    for (unsigned scans = 0; scans < SCANS;) {
        bool dying = false;
        for (unsigned i = 0; i < HELD_MOST; i++) {
            uint64_t has = ps_load_seq(&book->tokens[key][i]), end = has ? ps_load_seq(&book->ends[has - 1]) : DEAD;
            if (end == DEAD && ps_exchange_if_equal(&book->tokens[key][i], &has, life + 1))
                return &book->tokens[key][i];
            dying |= end != 0;
        }
        scans += !dying;
    }
    return 0;
}

_Noreturn static void live(uint64_t life, uint64_t seed) {
    ps_limiter limiter;
    uint64_t random = seed + life * UINT64_C(0x9e3779b97f4a7c15) + 1;
    attach(&limiter, (uint64_t)getpid());
    for (;;) {
        uint64_t key = draw_below(&random, KEYS);
        if (take(&limiter, 1, 77))
            ps_add_seq(&book->spent[life], 1);
        if (!take(&limiter, 0, key + 10))
            continue;
        ps_word *token = token_for(key, life);
        if (!token) {
            ps_store_seq(&book->wrong, life + 1);
            _exit(1);
        }
        for (uint64_t end = now_ns() + (draw_below(&random, 4) ? 0 : draw_below(&random, 100000)); now_ns() < end;) {
        }
        ps_store_seq(token, 0);
        ps_let_go(&limiter, &limiter.limits[0], &limiter.limits[0].policies[0], key + 10, 1);
    }
}

static pid_t begin(uint64_t life, uint64_t seed) {
    pid_t pid = fork();
    CHECK(pid >= 0, "no process");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        live(life, seed);
    }
    return pid;
}

static void end_life(pid_t pid, uint64_t life) {
    ps_store_seq(&book->ends[life], DYING);
    kill(pid, SIGKILL);
    waitpid(pid, 0, 0);
    ps_store_seq(&book->ends[life], DEAD);
}

static void look_at_the_whole(uint64_t lives, uint64_t begun_ns) {
    ps_limiter limiter;
    attach(&limiter, 1);
    while (ps_clear_dead(&limiter)) {
    }
    for (uint64_t key = 0; key < KEYS; key++) {
        uint64_t index, state;
        if (ps_settled(&limiter.limits[0], key + 10, &index, &state))
            CHECK(ps_concurrency_held(&limiter.limits[0].policies[0], state) == 0, "%llu units of key %llu are stuck",
                  (unsigned long long)ps_concurrency_held(&limiter.limits[0].policies[0], state), (unsigned long long)key);
    }
    for (uint32_t seat = 0; seat < PS_SEATS_MOST; seat++)
        CHECK(seat == limiter.seat || !ps_load_seq(&limiter.commons->seats[seat].taken), "seat %u is still taken", seat);
    uint64_t spent = 0, said = 0, fingerprint;
    for (uint64_t index = 0; index < ps_table_slots(limiter.limits[1].table.homes); index++) {
        uint64_t units = 0;
        if (ps_inspect(&limiter.limits[1], index, now_ns(), &fingerprint, &units))
            spent += units;
    }
    for (uint64_t life = 0; life < lives; life++)
        said += ps_load_seq(&book->spent[life]);
    CHECK(spent + (now_ns() - begun_ns) / SECOND + 1 >= said && spent <= said + lives, "%llu were spent, processes say %llu, and %llu of them were killed",
          (unsigned long long)spent, (unsigned long long)said, (unsigned long long)lives);
    ps_seat_leave(&limiter);
    ps_limiter_close(&limiter);
    close(limiter.fd);
}

int main(int count, char **arguments) {
    CHECK(count == 4, "usage: segment PROCESSES KILLS SEED");
    unsigned processes = (unsigned)atoi(arguments[1]), kills = (unsigned)atoi(arguments[2]);
    uint64_t seed = (uint64_t)atoll(arguments[3]) * UINT64_C(0x9e3779b97f4a7c15) + 1, random = seed, life = 0, begun_ns = now_ns();
    CHECK(processes && processes < PS_SEATS_MOST && kills + processes < LIVES_MOST, "too many");
    pid_t pids[PS_SEATS_MOST];
    uint64_t lives[PS_SEATS_MOST], words[2] = {PS_SEAT_WORDS, 0};
    book = (notes *)mmap(0, sizeof *book, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    file = memfd_create("segment", MFD_CLOEXEC);
    CHECK(book != MAP_FAILED && file >= 0 && !ftruncate(file, (off_t)ps_limiter_bytes(64, words, 2, false, true)), "no memory");
    for (unsigned killed = 0; killed < kills;) {
        for (unsigned i = 0; i < processes; i++)
            pids[i] = begin(lives[i] = life++, seed);
        for (unsigned round = 0; round < AROUND && killed < kills; round++, killed++) {
            struct timespec some = {0, (long)draw_below(&random, 2000000)};
            unsigned i = (unsigned)draw_below(&random, processes);
            nanosleep(&some, 0);
            end_life(pids[i], lives[i]);
            CHECK(!ps_load_seq(&book->wrong), "life %llu took a unit above the limit", (unsigned long long)ps_load_seq(&book->wrong) - 1);
            pids[i] = begin(lives[i] = life++, seed);
        }
        for (unsigned i = 0; i < processes; i++) {
            end_life(pids[i], lives[i]);
        }
        CHECK(!ps_load_seq(&book->wrong), "a unit above the limit was taken");
        look_at_the_whole(life, begun_ns);
    }
    uint64_t said = 0;
    for (uint64_t i = 0; i < life; i++)
        said += ps_load_seq(&book->spent[i]);
    printf("%llu processes lived, %llu decisions were admitted\n", (unsigned long long)life, (unsigned long long)said);
    return 0;
}
#endif
