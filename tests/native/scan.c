/* One thread: the scanners alone, on values that were written to hurt them and on random ones, each in a block of memory of
 * just its size, so that a sanitizer sees a byte too many; and that what they say is within the value and the same again.
 *
 * Arguments: random values, seed. */
#include "testing.h"

#include "scan/scan.h"

static const char *const PIECES[] = {
    "'", "\"", "`", "(", ")", "<", ">", "/", "\\", ".", "..", "-", "--", "#", ";", "|", "||", "&", "&&", "$", "$(", "${", "%", "%2", "%27",
    "%25", "%u0027", "%u00", "\\u0027", "\\u{27}", "\\x27", "\\", "&#", "&#x27;", "&#39", "&lt;", "&lt", "+", "=", "@", "@@", ":", "::",
    "\xc0\xa7", "\xc0", "\xe0\x80\xa7", "\xf0", "\xef\xbc\x87", "\xff", "\xa0", "\n", "\t", " ", "0x", "0x2e", "0x27", "1", "1e", "1.", ".5",
    "/*", "*/", "/*!", "/*!50000", "<!--", "<!", "<?", "</", "<a", "<script", " onload", " onload=", "style=", "href=", "javascript:",
    "data:text/html", "alert(", "document.cookie=", "' or '", " union ", " select ", " from ", "case when ", "if(", "sleep(", "order by ",
    "having ", "insert into ", "drop table ", "waitfor delay", "../", "..\\", "....//", "/etc/passwd", "{file}", "file://", "/bin/", ";id",
    "ping ", "system('", "a", "zz", "_", "QUJDRA", "PHNjcmlwdD4", "==", "+ADw-", "www.", "http://",
};
enum { PIECE_COUNT = sizeof PIECES / sizeof *PIECES };

static ps_lexicon lexicon;

static void look(const uint8_t *bytes, size_t length, int paranoia, ps_findings *found) {
    static ps_scratch scratch;
    memset(found, 0, sizeof *found);
    found->paranoia = paranoia;
    ps_scan(&lexicon, bytes, length, &scratch, found);
    CHECK(found->count <= PS_FINDINGS, "%d findings", found->count);
    for (int i = 0; i < found->count; i++) {
        const ps_finding *one = &found->items[i];
        CHECK(one->rule < PS_RULE_COUNT && PS_RULE_TABLE[one->rule].level <= paranoia, "rule %d", one->rule);
        CHECK(one->start <= one->end && one->end <= length, "%s at %u to %u of %zu", PS_RULE_TABLE[one->rule].name, one->start, one->end, length);
    }
}

static void check(const uint8_t *value, size_t length) {
    uint8_t *block = malloc(length ? length : 1);
    memcpy(block, value, length);
    for (int paranoia = 1; paranoia <= 4; paranoia += 3) {
        ps_findings once, again;
        look(block, length, paranoia, &once);
        look(block, length, paranoia, &again);
        CHECK(memcmp(&once, &again, sizeof once) == 0, "two answers for one value");
    }
    free(block);
}

static void check_says(const char *value, const char *rule) {
    ps_findings found;
    look((const uint8_t *)value, strlen(value), 1, &found);
    const char *said = found.count ? PS_RULE_TABLE[found.items[0].rule].name : "";
    CHECK(strcmp(said, rule) == 0, "%s: \"%s\", not \"%s\"", value, said, rule);
}

static void check_words(void) {
    static ps_words words;
    ps_words_add(&words, "one two three", 1);
    ps_words_add(&words, "three four", 2);
    CHECK(words.count == 4, "%d words", words.count);
    CHECK(ps_words_get(&words, ps_hash_of((const uint8_t *)"THREE", 5)) == 1, "case, or the first list");
    CHECK(ps_words_get(&words, ps_hash_of((const uint8_t *)"four", 4)) == 2, "four");
    CHECK(ps_words_get(&words, ps_hash_of((const uint8_t *)"fou", 3)) == 0, "fou is no word");
    for (int i = 0; i < 5000; i++) {
        char word[16];
        snprintf(word, sizeof word, "w%d", i);
        ps_words_add(&words, word, 3);
    }
    CHECK(words.count == PS_WORDS / 2, "%d words: a search must come to an empty slot", words.count);
    CHECK(lexicon.sql.count < PS_WORDS / 2 && lexicon.html.count < PS_WORDS / 2 && lexicon.command.count < PS_WORDS / 2, "a list was cut off");
}

int main(int argc, char **argv) {
    static uint8_t value[3 * PS_SCAN_BYTES];
    uint64_t values = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000, state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    ps_lexicon_make(&lexicon);
    check_words();
    check_says("hello", "");
    check_says("O'Brien", "");
    check_says("1' or 1=1--", "condition");
    check_says("<svg/onload=alert(1)>", "active-tag");
    check_says("../../etc/passwd", "parent-directory");
    check_says(";id", "chained-command");
    for (int piece = 0; piece < PIECE_COUNT; piece++) { /* each alone, again and again, cut off anywhere */
        size_t length = 0, size = strlen(PIECES[piece]);
        for (; length + size <= 5000; length += size)
            memcpy(value + length, PIECES[piece], size);
        for (size_t cut = 0; cut < 40; cut++)
            check(value, cut);
        for (size_t cut = PS_WINDOW - 2; cut < PS_WINDOW + 3; cut++)
            check(value, cut);
        check(value, length);
    }
    for (uint64_t i = 0; i < values; i++) {
        size_t most = draw_below(&state, 100) == 0 ? sizeof value : draw_below(&state, 10) == 0 ? 6000 : 200, length = 0;
        uint64_t random = draw_below(&state, 3), few = 1 + draw_below(&state, 12), first = draw_below(&state, PIECE_COUNT);
        most = 1 + draw_below(&state, most);
        while (length + 24 < most) {
            if (random == 0 && draw_below(&state, 2)) {
                value[length++] = (uint8_t)draw(&state);
                continue;
            }
            const char *piece = PIECES[(first + draw_below(&state, few) * 7) % PIECE_COUNT];
            memcpy(value + length, piece, strlen(piece));
            length += strlen(piece);
        }
        check(value, length);
    }
    return 0;
}
