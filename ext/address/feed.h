/* Lists of addresses as files have them, a block of bytes at a time, in memory bounded by what is taken from them.
 *
 * A line is an entry (entry.h), an entry and a count, or "add NAME ENTRY …" as ipset saves it; its other commands, empty
 * lines and what follows # or ; say nothing. Any other line is rejected, and counted. */
#ifndef PENSTOCK_ADDRESS_FEED_H
#define PENSTOCK_ADDRESS_FEED_H

#include "intervals.h"

#define PS_LINE_MOST 512
#define PS_REJECTED_SHOWN 8

typedef struct {
    uint64_t line;
    ps_reason reason;
} ps_rejected;

typedef struct {
    ps_entry *entries;
    size_t count, room;
    char *texts;
    size_t texts_used, texts_room;
    int64_t level; /* counts below it are passed over; -1: counts say nothing */
    uint64_t lines, taken, below, rejected;
    ps_rejected first[PS_REJECTED_SHOWN];
    char carry[PS_LINE_MOST]; /* the beginning of a line that the last block ended in */
    size_t carried;
    bool overlong; /* that line is longer than PS_LINE_MOST */
    bool full;     /* PS_ENTRIES_MOST, or 2^32 bytes of text; nothing more is taken */
    bool no_memory;
} ps_feed;

static inline void ps_feed_free(ps_feed *feed) {
    free(feed->entries);
    free(feed->texts);
    feed->entries = NULL, feed->texts = NULL;
    feed->count = feed->room = feed->texts_used = feed->texts_room = 0;
}

/* Room for `need` more of what has `used` of `room`; twice as much each time. */
static inline bool ps_grow(void **block, size_t used, size_t *room, size_t need, size_t size) {
    if (*room - used >= need)
        return true;
    size_t wanted = *room * 2 > used + need ? *room * 2 : used + need + 1024;
    void *grown = realloc(*block, wanted * size);
    if (!grown)
        return false;
    *block = grown;
    *room = wanted;
    return true;
}

/* Keeps an entry that ps_read_entry has read from `text` (of less than 2^16 bytes). */
static inline void ps_feed_keep(ps_feed *feed, ps_entry entry, const char *text, size_t count) {
    if (feed->count >= PS_ENTRIES_MOST || feed->texts_used + count + 2 > UINT32_MAX) {
        feed->full = true;
        return;
    }
    if (!ps_grow((void **)&feed->entries, feed->count, &feed->room, 1, sizeof *feed->entries) ||
        (entry.code == PS_CODE_ODD && !ps_grow((void **)&feed->texts, feed->texts_used, &feed->texts_room, count + 2, 1))) {
        feed->no_memory = true;
        return;
    }
    if (entry.code == PS_CODE_ODD) {
        char *out = feed->texts + feed->texts_used;
        entry.text = (uint32_t)feed->texts_used;
        out[0] = (char)(count & 255), out[1] = (char)(count >> 8);
        memcpy(out + 2, text, count);
        feed->texts_used += count + 2;
    }
    feed->entries[feed->count++] = entry;
    feed->taken++;
}

static inline void ps_feed_reject(ps_feed *feed, ps_reason reason) {
    if (feed->rejected < PS_REJECTED_SHOWN)
        feed->first[feed->rejected] = (ps_rejected){feed->lines, reason};
    feed->rejected++;
}

/* Takes the first word off a text without blanks at its ends. */
static inline void ps_word_of(const char **text, size_t *count, const char **word, size_t *length) {
    *word = *text;
    while (*count && !ps_is_blank(**text))
        ++*text, --*count;
    *length = (size_t)(*text - *word);
    ps_trim(text, count);
}

static inline bool ps_is_word(const char *word, size_t length, const char *of) {
    return strlen(of) == length && memcmp(word, of, length) == 0;
}

/* A number of digits alone; false for anything else. Very large ones are cut to INT64_MAX. */
static inline bool ps_read_count(const char *text, size_t count, int64_t *out) {
    int64_t value = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned digit = (unsigned)(unsigned char)text[i] - '0';
        if (digit > 9)
            return false;
        value = value > (INT64_MAX - 9) / 10 ? INT64_MAX : value == INT64_MAX ? value : value * 10 + digit;
    }
    *out = value;
    return count > 0;
}

/* What ipset's other commands, which name no address, begin with. */
static inline bool ps_is_command(const char *word, size_t length) {
    static const char *const COMMANDS[] = {"create", "flush", "destroy", "swap", "rename", "COMMIT"};
    for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++)
        if (ps_is_word(word, length, COMMANDS[i]))
            return true;
    return false;
}

static inline ps_reason ps_feed_entry(ps_feed *feed, const char *text, size_t length, const char *rest, size_t left, bool saved) {
    ps_entry entry;
    ps_reason reason = ps_read_entry(text, length, &entry);
    int64_t level = -1;
    if (reason != PS_TAKEN)
        return reason;
    if (saved)
        while (left) { /* ends: each turn takes a word */
            const char *option;
            size_t size;
            ps_word_of(&rest, &left, &option, &size);
            if (ps_is_word(option, size, "nomatch"))
                return PS_EXCEPTION;
        }
    else if (left && !ps_read_count(rest, left, &level))
        return PS_TRAILING;
    if (feed->level >= 0 && level < 0)
        return PS_NO_COUNT;
    if (level < feed->level)
        feed->below++;
    else
        ps_feed_keep(feed, entry, text, length);
    return PS_TAKEN;
}

static inline void ps_feed_line(ps_feed *feed, const char *text, size_t count) {
    const char *word, *rest;
    size_t length, left;
    if (++feed->lines == 1 && count >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) /* a mark of the encoding */
        text += 3, count -= 3;
    for (size_t i = 0; i < count; i++)
        if (text[i] == '#' || text[i] == ';')
            count = i;
    ps_trim(&text, &count);
    if (count == 0)
        return;
    rest = text, left = count;
    ps_word_of(&rest, &left, &word, &length);
    if (ps_is_command(word, length))
        return;
    bool saved = ps_is_word(word, length, "add");
    if (saved) {
        ps_word_of(&rest, &left, &word, &length); /* the name of the set */
        ps_word_of(&rest, &left, &word, &length);
    } else if ((left && rest[0] == '-') || word[length - 1] == '-')
        word = text, length = count, left = 0; /* a range with blanks around its hyphen */
    ps_reason reason = ps_feed_entry(feed, word, length, rest, left, saved);
    if (reason != PS_TAKEN)
        ps_feed_reject(feed, reason);
}

static inline void ps_feed_long_line(ps_feed *feed) {
    feed->lines++;
    ps_feed_reject(feed, PS_LONG_LINE);
    feed->overlong = false;
    feed->carried = 0;
}

/* The next bytes of a file. A line may begin in one block and end in another. */
static inline void ps_feed_block(ps_feed *feed, const char *block, size_t count) {
    while (count && !feed->full && !feed->no_memory) {
        const char *end = (const char *)memchr(block, '\n', count);
        size_t length = end ? (size_t)(end - block) : count;
        if (feed->overlong || feed->carried + length > PS_LINE_MOST) {
            feed->overlong = true;
            if (end)
                ps_feed_long_line(feed);
        } else if (end && feed->carried == 0) {
            ps_feed_line(feed, block, length);
        } else {
            memcpy(feed->carry + feed->carried, block, length);
            feed->carried += length;
            if (end) {
                length = feed->carried;
                feed->carried = 0;
                ps_feed_line(feed, feed->carry, length);
                length = (size_t)(end - block);
            }
        }
        block += length + (end != NULL), count -= length + (end != NULL);
    }
}

/* After the last block: a last line without an end is one too. */
static inline void ps_feed_end(ps_feed *feed) {
    if (feed->overlong)
        ps_feed_long_line(feed);
    else if (feed->carried)
        ps_feed_line(feed, feed->carry, feed->carried);
    feed->carried = 0;
}

#endif
