/* One value: what encodings hide is brought out layer by layer, and each layer is read as SQL, HTML, a path and a command.
 *
 *     value -> windows -> layers (decode.h) -> sql.h, html.h, path.h, command.h -> findings
 *
 * Layers end with the first that convicts. A value longer than PS_SCAN_BYTES is looked at in its first three quarters of that
 * many bytes and in its last quarter; windows overlap, so that nothing is cut where it would be recognised. Time is linear in
 * what is looked at, and all memory is the caller's: one ps_scratch. */
#ifndef PENSTOCK_SCAN_H
#define PENSTOCK_SCAN_H

#include "command.h"
#include "decode.h"
#include "finding.h"
#include "html.h"
#include "path.h"
#include "sql.h"
#include "text.h"
#include "words.h"

#define PS_SCAN_BYTES 65536
#define PS_OVERLAP 512

typedef struct {
    ps_words sql, html, command;
    uint16_t classes[256];
} ps_lexicon;

typedef struct {
    ps_layer layers[2]; /* the one that is scanned, and the one that is made from it */
    ps_sql sql;
    ps_path path;
} ps_scratch;

static inline void ps_lexicon_make(ps_lexicon *lexicon) {
    memset(lexicon, 0, sizeof *lexicon);
    ps_sql_words(&lexicon->sql);
    ps_html_words(&lexicon->html);
    ps_command_words(&lexicon->command);
    for (int c = 0; c < 256; c++)
        lexicon->classes[c] = ps_class_of((uint8_t)c);
}

static inline uint32_t ps_classes(const ps_lexicon *lexicon, const uint8_t *bytes, uint32_t length) {
    uint32_t has = 0;
    for (uint32_t i = 0; i < length; i++)
        has |= lexicon->classes[bytes[i]];
    return has;
}

/* Nothing that any scanner looks for can be made of these bytes alone: no words side by side, no signs, no dots in a row. */
static inline bool ps_harmless(const uint8_t *bytes, uint32_t length, uint32_t has) {
    const uint32_t words = PS_HAS_LETTER | PS_HAS_DIGIT | PS_HAS_PLAIN;
    if (!(has & ~words))
        return true;
    if (has & ~(words | PS_HAS_DOT | PS_HAS_DASH))
        return false;
    for (uint32_t i = 1; i < length; i++)
        if (bytes[i] == bytes[i - 1] && (bytes[i] == '.' || bytes[i] == '-'))
            return false;
    return true;
}

static inline void ps_scan_layer(const ps_lexicon *lexicon, const ps_text *text, uint32_t has, ps_scratch *scratch,
                                 ps_findings *found) {
    ps_scan_html(&lexicon->html, text, has, found);
    ps_scan_path(text, has, &scratch->path, found);
    ps_scan_command(&lexicon->command, text, has, found);
    ps_scan_sql(&lexicon->sql, text, has, &scratch->sql, found);
}

static inline void ps_scan_window(const ps_lexicon *lexicon, ps_text text, ps_scratch *scratch, ps_findings *found) {
    ps_text next;
    for (int layer = 0; layer < PS_LAYERS; layer++) {
        uint32_t has = ps_classes(lexicon, text.bytes, text.length);
        if (!ps_harmless(text.bytes, text.length, has))
            ps_scan_layer(lexicon, &text, has, scratch, found);
        if (ps_convicted(found))
            return;
        ps_layer *out = &scratch->layers[layer & 1];
        bool plus = has & PS_HAS_PLUS && !(has & PS_HAS_SPACE);
        if (has & PS_HAS_ESCAPE || plus) {
            if (!ps_decode(&text, out, &next, plus)) {
                if (!ps_decode_base64(&text, out, &next))
                    return;
            }
        } else if (!ps_decode_base64(&text, out, &next)) {
            return;
        }
        text = next;
    }
}

/* Scans a value. found: empty, but for the paranoia. */
static inline void ps_scan(const ps_lexicon *lexicon, const uint8_t *bytes, uint64_t length, ps_scratch *scratch,
                           ps_findings *found) {
    if (length <= PS_WINDOW) {
        ps_text text = {bytes, NULL, 0, (uint32_t)length, (uint32_t)length};
        ps_scan_window(lexicon, text, scratch, found);
        return;
    }
    uint64_t head = length > PS_SCAN_BYTES ? PS_SCAN_BYTES / 4 * 3 : length;
    for (uint64_t at = 0; at < length;) {
        uint64_t end = at + PS_WINDOW < length ? at + PS_WINDOW : length;
        ps_text text = {bytes + at, NULL, (uint32_t)at, (uint32_t)(end - at), (uint32_t)end};
        ps_scan_window(lexicon, text, scratch, found);
        if (end == length || ps_convicted(found))
            return;
        at += PS_WINDOW - PS_OVERLAP;
        if (length > PS_SCAN_BYTES && at >= head && at < length - PS_SCAN_BYTES / 4)
            at = length - PS_SCAN_BYTES / 4;
    }
}

#endif
