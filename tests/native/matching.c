/* Addresses, sets, feeds and literals over memory that ends where the text ends, so that one byte too far is seen:
 *
 *   what is read as an address and written again is read as the same; a set answers as a walk over its entries does;
 *   lines cut anywhere are the same lines; the automaton finds what memcmp at every place finds.
 *
 * Arguments: rounds, seed. */
#define _GNU_SOURCE 1 /* memmem */
#include "address/feed.h"
#include "scan/automaton.h"
#include "testing.h"

#define ENTRIES 60
#define LITERALS 40

/* A copy on the heap without a byte to spare. */
static char *exact(const char *text, size_t count) {
    char *copy = (char *)malloc(count ? count : 1);
    memcpy(copy, text, count);
    return copy;
}

static size_t draw_text(uint64_t *x, char *out, size_t most, const char *signs) {
    size_t count = draw_below(x, most + 1), kinds = strlen(signs);
    for (size_t i = 0; i < count; i++)
        out[i] = draw_below(x, 200) ? signs[draw_below(x, kinds)] : (char)draw(x);
    return count;
}

static ps_number draw_number(uint64_t *x, bool six) {
    ps_number number = {0, draw(x) & UINT32_MAX};
    if (six)
        number = (ps_number){draw_below(x, 2) ? UINT64_C(0x20010db8) << 32 : draw(x), draw_below(x, 4) ? draw_below(x, 99) : draw(x)};
    else if (draw_below(x, 2))
        number.low = 0x0a000000 | draw_below(x, 512);
    return number;
}

/* Groups with colons between them, about as many as an address has, and at times four numbers with dots at its end. */
static size_t draw_groups(uint64_t *x, char *out) {
    uint64_t groups = 5 + draw_below(x, 5), gap = draw_below(x, 14);
    size_t count = 0;
    for (uint64_t i = 0; i < groups; i++)
        count += (size_t)sprintf(out + count, i == gap ? ":%x:" : "%x:", (unsigned)draw_below(x, draw_below(x, 9) ? 65536 : 65600));
    return draw_below(x, 2) ? count - 1 : count + (size_t)sprintf(out + count, "1.2.3.%u", (unsigned)draw_below(x, 260));
}

static bool same(ps_number a, ps_number b) { return ps_number_compare(a, b) == 0; }

static void addresses(uint64_t *x) {
    char text[PS_ENTRY_TEXT], own[PS_ENTRY_TEXT];
    ps_address read;
    bool six = draw_below(x, 2);
    ps_number number = draw_number(x, six);
    size_t count = ps_write_address(number, six, text);
    CHECK(count < PS_ADDRESS_TEXT, "%zu characters", count);
    char *copy = exact(text, count);
    CHECK(ps_read_address(copy, count, &read), "%.*s is not read", (int)count, text);
    CHECK(read.six == six ? same(read.number, number) : six && read.mapped, "%.*s is another", (int)count, text);
    free(copy);
    char *any = (char *)malloc(160);
    count = draw_below(x, 2) ? draw_groups(x, any) : draw_text(x, any, 159, "0123456789abcdef::::....%%-/");
    copy = exact(any, count);
    ps_entry entry;
    if (ps_read_entry(copy, count, &entry) == PS_TAKEN) {
        ps_entry again;
        CHECK(ps_number_compare(entry.first, entry.last) <= 0, "ends before it begins");
        size_t length = ps_write_entry(&entry, own);
        CHECK(length < PS_ENTRY_TEXT && ps_read_entry(own, length, &again) == PS_TAKEN, "%.*s is not read", (int)length, own);
        CHECK(same(entry.first, again.first) && same(entry.last, again.last), "%.*s is another", (int)length, own);
    }
    if (ps_read_address(copy, count, &read)) {
        size_t colons = 0;
        for (size_t i = 0; i < count; i++)
            colons += copy[i] == ':';
        CHECK(memchr(copy, '.', count) || memmem(copy, count, "::", 2) || colons == 7, "%.*s is an address", (int)count, copy);
    }
    free(copy), free(any);
}

/* Entries from few addresses, which therefore overlap. */
static ps_entry draw_entry(uint64_t *x, ps_feed *feed) {
    ps_entry entry;
    memset(&entry, 0, sizeof entry);
    entry.six = draw_below(x, 2);
    entry.first = entry.last = draw_number(x, entry.six);
    entry.code = PS_CODE_PLAIN;
    if (draw_below(x, 3) == 0) { /* a network */
        unsigned width = entry.six ? 128 : 32, length = width - (unsigned)draw_below(x, draw_below(x, 4) ? 10 : width + 1);
        ps_number mask = ps_number_mask(entry.six ? length : length + 96);
        entry.first.high &= entry.six ? mask.high : 0, entry.first.low &= mask.low;
        entry.last.high = entry.first.high | (entry.six ? ~mask.high : 0), entry.last.low = entry.first.low | ~mask.low;
        entry.code = (uint8_t)length;
    } else if (draw_below(x, 3) == 0) { /* a range */
        uint64_t top = entry.six ? UINT64_MAX : UINT32_MAX, more = draw_below(x, 50);
        entry.last.low = top - entry.last.low < more ? top : entry.last.low + more;
        entry.code = PS_CODE_ODD;
    }
    char text[PS_ENTRY_TEXT];
    size_t count = ps_write_entry(&entry, text);
    ps_feed_keep(feed, entry, text, count);
    return entry;
}

static void sets(uint64_t *x) {
    ps_feed feed;
    ps_entry all[ENTRIES];
    size_t count = draw_below(x, ENTRIES + 1);
    memset(&feed, 0, sizeof feed);
    for (size_t i = 0; i < count; i++)
        all[i] = draw_entry(x, &feed);
    ps_intervals *set = ps_intervals_build(feed.entries, feed.count, feed.texts, feed.texts_used);
    CHECK(set, "no memory");
    ps_feed_free(&feed);
    for (size_t i = 0; i < count + 8; i++) {
        ps_address asked = {.number = draw_number(x, i & 1), .six = i & 1};
        if (i < count) {
            asked = (ps_address){.number = draw_below(x, 2) ? all[i].first : all[i].last, .six = all[i].six};
            asked.number.low += draw_below(x, 3) - 1; /* one before, or one after, around 0 too */
            if (!asked.six)
                asked.number.low &= UINT32_MAX;
        }
        ps_number width = {UINT64_MAX, UINT64_MAX};
        bool there = false;
        for (size_t j = 0; j < count; j++) {
            const ps_entry *e = &all[j];
            if (e->six != asked.six || ps_number_compare(e->first, asked.number) > 0 || ps_number_compare(asked.number, e->last) > 0)
                continue;
            ps_number own = {e->last.high - e->first.high - (e->last.low < e->first.low), e->last.low - e->first.low};
            width = !there || ps_number_compare(own, width) < 0 ? own : width;
            there = true;
        }
        uint32_t segment;
        uint8_t code = ps_intervals_find(set, &asked, &segment);
        CHECK((code != PS_CODE_NONE) == there, "an address is %sin a set of %zu", there ? "" : "not ", count);
        if (there) {
            char own[PS_ENTRY_TEXT];
            size_t length;
            ps_entry found;
            const char *text = ps_intervals_text(set, &asked, segment, code, own, &length);
            CHECK(ps_read_entry(text, length, &found) == PS_TAKEN, "%.*s is no entry", (int)length, text);
            ps_number narrow = {found.last.high - found.first.high - (found.last.low < found.first.low), found.last.low - found.first.low};
            CHECK(same(narrow, width), "%.*s is not the narrowest", (int)length, text);
        }
    }
    free(set);
}

static void feeds(uint64_t *x) {
    char *text = (char *)malloc(4000);
    size_t count = draw_text(x, text, 4000, "0123456789..\n\n\n\t add;#/-:");
    size_t line = 500 + draw_below(x, 30); /* about as long as a line may be */
    if (line + 2 < count)
        memset(text + 1, '1', line), text[0] = '\n', text[line + 1] = '\n';
    ps_feed whole, parts;
    memset(&whole, 0, sizeof whole), memset(&parts, 0, sizeof parts);
    whole.level = parts.level = (int64_t)draw_below(x, 3) - 1;
    char *copy = exact(text, count);
    ps_feed_block(&whole, copy, count);
    free(copy);
    for (size_t at = 0; at < count;) {
        size_t some = 1 + draw_below(x, draw_below(x, 3) ? 40 : 1500);
        some = some < count - at ? some : count - at;
        copy = exact(text + at, some);
        ps_feed_block(&parts, copy, some);
        free(copy);
        at += some;
    }
    ps_feed_end(&whole), ps_feed_end(&parts);
    CHECK(whole.lines == parts.lines && whole.taken == parts.taken && whole.below == parts.below && whole.rejected == parts.rejected,
          "lines cut in parts are others");
    CHECK(whole.taken + whole.below + whole.rejected <= whole.lines, "more than there are lines");
    if (line + 2 < count && line > PS_LINE_MOST && whole.rejected && whole.first[0].line == 2)
        CHECK(whole.first[0].reason == PS_LONG_LINE, "a long line is read");
    CHECK(whole.texts_used == parts.texts_used && whole.count == whole.taken, "kept otherwise");
    ps_intervals *set = ps_intervals_build(whole.entries, whole.count, whole.texts, whole.texts_used);
    CHECK(set && set->entries <= whole.taken, "the set of a feed");
    free(set), free(text);
    ps_feed_free(&whole), ps_feed_free(&parts);
}

static uint8_t fold_of(char sign, bool fold) { return ps_fold_byte((uint8_t)sign, fold); }

static bool is_at(const ps_literal *literal, const char *text, size_t count, size_t at, bool fold) {
    if (literal->count > count - at || (literal->begins && at) || (literal->ends && at + literal->count != count))
        return false;
    for (uint32_t i = 0; i < literal->count; i++)
        if (fold_of(literal->bytes[i], fold) != fold_of(text[at + i], fold))
            return false;
    return true;
}

static void literals(uint64_t *x) {
    ps_literal all[LITERALS];
    char *words[LITERALS], *text = (char *)malloc(300);
    size_t count = draw_below(x, LITERALS + 1);
    bool fold = draw_below(x, 2);
    const char *signs = draw_below(x, 2) ? "ab" : "abcdefghABCDEFGH";
    for (size_t i = 0; i < count; i++) {
        size_t length = draw_text(x, text, 8, signs);
        length += length == 0 ? (text[0] = 'a', 1) : 0;
        words[i] = exact(text, length);
        all[i] = (ps_literal){words[i], (uint32_t)length, draw_below(x, 8) == 0, draw_below(x, 8) == 0};
    }
    const char *fault = ps_literals_fault(all, count);
    CHECK(!fault, "%s", fault);
    ps_automaton *made = ps_automaton_build(all, count, fold);
    CHECK(made, "no memory");
    for (int turn = 0; turn < 6; turn++) {
        size_t length = draw_text(x, text, 300, signs), most = draw_below(x, 4) ? LITERALS : 1 + draw_below(x, 4), expected = 0;
        char *copy = exact(text, length);
        uint64_t *seen = (uint64_t *)malloc((ps_automaton_words(made) + 1) * sizeof *seen);
        uint32_t *hits = (uint32_t *)malloc(most * sizeof *hits);
        bool there[LITERALS] = {false};
        size_t found = ps_automaton_find(made, copy, length, seen, hits, most);
        for (size_t i = 0; i < count; i++) {
            for (size_t at = 0; at <= length; at++)
                there[i] |= is_at(&all[i], copy, length, at, fold);
            expected += there[i];
        }
        CHECK(found == (expected < most ? expected : most), "%zu literals instead of %zu", found, expected);
        for (size_t i = 0; i < found; i++) {
            CHECK(hits[i] < count && there[hits[i]], "literal %u is not there, or is told twice", hits[i]);
            there[hits[i]] = false;
        }
        free(copy), free(seen), free(hits);
    }
    free(made), free(text);
    for (size_t i = 0; i < count; i++)
        free(words[i]);
}

int main(int count, char **arguments) {
    uint64_t rounds = count > 1 ? strtoull(arguments[1], NULL, 10) : 3000, x = count > 2 ? strtoull(arguments[2], NULL, 10) : 1;
    CHECK(x, "the seed must not be 0");
    for (uint64_t i = 0; i < rounds; i++) {
        addresses(&x);
        sets(&x);
        feeds(&x);
        literals(&x);
    }
    printf("%llu rounds\n", (unsigned long long)rounds);
    return 0;
}
