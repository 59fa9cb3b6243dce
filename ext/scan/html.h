/* Cross-site scripting: would a browser run something of this, as text, inside an attribute, or inside a script?
 *
 * Every '<' is tried as the beginning of a tag, so it does not matter what a filter or a browser thinks the tags before it
 * were. What all tags of one window may cost together is bounded. */
#ifndef PENSTOCK_HTML_H
#define PENSTOCK_HTML_H

#include "decode.h"
#include "finding.h"
#include "text.h"
#include "words.h"
#include <stdbool.h>

enum { HTML_ACTIVE = 1, HTML_LOADED, /* active with an attribute: alone it is a word */ HTML_EVENT, HTML_ATTRIBUTE, HTML_CALL };

static inline void ps_html_words(ps_words *words) {
    ps_words_add(words,
                 "script style iframe frameset embed applet svg vmlframe ilayer bgsound isindex xss noscript animatetransform "
                 "animatemotion animatecolor foreignobject event-source xsl feimage marquee plaintext xmp",
                 HTML_ACTIVE);
    ps_words_add(words,
                 "frame object meta link base xml layer import set animate handler listener implementation vml rect image portal",
                 HTML_LOADED);
    ps_words_add(
        words,
        "onabort onactivate onafterprint onafterupdate onanimationcancel onanimationend onanimationiteration "
        "onanimationstart onauxclick onbeforeactivate onbeforecopy onbeforecut onbeforedeactivate onbeforeeditfocus "
        "onbeforeinput onbeforepaste onbeforeprint onbeforeunload onbeforeupdate onbegin onblur onbounce oncancel "
        "oncanplay oncanplaythrough oncellchange onchange onclick onclose oncontextmenu oncontrolselect oncopy oncuechange "
        "oncut ondataavailable ondatasetchanged ondatasetcomplete ondblclick ondeactivate ondrag ondragend ondragenter "
        "ondragexit ondragleave ondragover ondragstart ondrop ondurationchange onemptied onend onended onerror "
        "onerrorupdate onfilterchange onfinish onfocus onfocusin onfocusout onformchange onformdata onforminput "
        "onfullscreenchange ongotpointercapture onhashchange onhelp oninput oninvalid onkeydown onkeypress onkeyup "
        "onlayoutcomplete onload onloadeddata onloadedmetadata onloadend onloadstart onlosecapture onmessage onmousedown "
        "onmouseenter onmouseleave onmousemove onmouseout onmouseover onmouseup onmousewheel onmove onmoveend onmovestart "
        "onoffline ononline onorientationchange onoutofsync onpagehide onpageshow onpaste onpause onplay onplaying "
        "onpointercancel onpointerdown onpointerenter onpointerleave onpointermove onpointerout onpointerover "
        "onpointerrawupdate onpointerup onpopstate onprogress onpropertychange onratechange onreadystatechange onrepeat "
        "onreset onresize onresizeend onresizestart onresume onreverse onrowdelete onrowenter onrowexit onrowinserted "
        "onrowsdelete onrowsenter onrowsinserted onscroll onscrollend onsearch onsecuritypolicyviolation onseek onseeked "
        "onseeking onselect onselectionchange onselectstart onshow onslotchange onstalled onstart onstop onstorage onsubmit "
        "onsuspend onsynchrestored ontimeerror ontimeupdate ontoggle ontouchcancel ontouchend ontouchmove ontouchstart "
        "ontrackchange ontransitioncancel ontransitionend ontransitionrun ontransitionstart onundo onunload onurlflip "
        "onvolumechange onwaiting onwheel onzoom",
        HTML_EVENT);
    ps_words_add(words,
                 "srcdoc datasrc dynsrc lowsrc datafld dataformatas attributename http-equiv fscommand seeksegmenttime "
                 "xlink:href",
                 HTML_ATTRIBUTE);
    ps_words_add(words,
                 "alert confirm prompt eval execscript settimeout setinterval msgbox fromcharcode atob unescape "
                 "decodeuricomponent write writeln appendchild createelement importscripts fetch",
                 HTML_CALL);
}

typedef struct {
    const ps_words *words;
    const ps_text *text;
    ps_findings *found;
    uint32_t has;
    int budget;           /* bytes that tags may still read */
    uint32_t left_quotes; /* where a string was left first: the end, if none was */
} ps_html_scan;

#define PS_HTML_BUDGET (4 * PS_WINDOW)
#define PS_HTML_VALUE 256 /* bytes of an attribute that are compared */

static inline void ps_html_find(const ps_html_scan *scan, int rule, uint32_t start, uint32_t end) {
    ps_find(scan->found, rule, ps_origin(scan->text, start), ps_origin(scan->text, end));
}

static inline bool ps_starts(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

/* A URL as a browser takes it: without spaces and controls, in lower case. */
static inline int ps_html_squeeze(const ps_text *text, uint32_t start, uint32_t end, char *out) {
    int length = 0;
    for (; start < end && start < text->length && length < PS_HTML_VALUE - 1; start++) {
        uint8_t c = text->bytes[start];
        if (ps_is_space(c) || c == '\\' || c == '`' || c == '"' || c == '\'' || c >= 0x80)
            continue;
        out[length++] = (char)ps_lower(c);
    }
    out[length] = 0;
    return length;
}

/* Is the host a number, or written in hexadecimal or octal parts? Nobody links so who means to be read. */
static inline bool ps_html_hidden_host(const char *url) {
    if (!ps_starts(url, "http://") && !ps_starts(url, "https://") && !ps_starts(url, "//"))
        return false;
    const char *host = strstr(url, "//") + 2;
    size_t length = strcspn(host, "/:?#"), digits = strspn(host, "0123456789"), parts = strspn(host, "0123456789abcdefx.");
    if (digits == length)
        return length >= 8;
    return parts == length && host[0] == '0' && (host[1] == 'x' || strspn(host, "01234567.") == length) && strchr(host, '.');
}

/* Does the URL make a browser run something? */
static inline bool ps_html_url(const char *url) {
    static const char *const SCHEMES[] = {
        "javascript:", "vbscript:", "livescript:", "mocha:", "jscript:", "vbs:", "feed:javascript:", "jar:",
        "javascript&colon",
    };
    for (unsigned i = 0; i < sizeof SCHEMES / sizeof *SCHEMES; i++)
        if (ps_starts(url, SCHEMES[i]))
            return true;
    if (!ps_starts(url, "data:"))
        return false;
    url += 5;
    return *url == ',' || ps_starts(url, "text/") || ps_starts(url, "application/") || ps_starts(url, "image/svg") ||
           *url == ';' || *url == 'x';
}

/* Does the style leave a string or a rule? A quote behind a letter that should have opened one, braces, a comment, an escape. */
static inline bool ps_html_broken_style(const ps_text *text, uint32_t start, uint32_t end) {
    bool inside = false;
    for (uint32_t i = start; i < end && i < text->length && i < start + 4 * PS_HTML_VALUE; i++) {
        uint8_t c = text->bytes[i];
        if (c == '{' || c == '}' || c == '\\' || (c == '/' && i + 1 < end && text->bytes[i + 1] == '*'))
            return true;
        if (c != '\'' && c != '"')
            continue;
        if (!inside && i > start && ps_in_word(text->bytes[i - 1]))
            return true;
        inside = !inside;
    }
    return false;
}

/* Style as a browser takes it: without comments, spaces and escapes. */
static inline bool ps_html_style(const ps_text *text, uint32_t start, uint32_t end) {
    static const char *const ACTIVE[] = {
        "expression(", "javascript:", "vbscript:", "behavior:", "behaviour:", "-moz-binding", "@import",
        "-o-link", "url(data:", "<img", "<script",
    };
    char out[2 * PS_HTML_VALUE];
    int length = 0;
    if (end > start + 4 * PS_HTML_VALUE)
        end = start + 4 * PS_HTML_VALUE;
    for (uint32_t i = start; i < end && i < text->length && length < (int)sizeof out - 1; i++) {
        uint8_t c = text->bytes[i];
        if (c == '/' && i + 1 < end && text->bytes[i + 1] == '*') {
            for (i += 2; i + 1 < end && !(text->bytes[i] == '*' && text->bytes[i + 1] == '/');)
                i++;
            i++;
            continue;
        }
        if (c == '\\' && i + 1 < end && ps_hex(text->bytes[i + 1]) >= 0) {
            uint32_t code, digits = ps_hex_number(text, i + 1, 6, &code);
            i += digits;
            c = code < 0x80 ? (uint8_t)code : 0xbf;
        } else if (c == '\\') {
            continue;
        }
        if (ps_is_space(c) || c >= 0x80 || c == '"' || c == '\'')
            continue;
        out[length++] = (char)ps_lower(c);
    }
    out[length] = 0;
    for (unsigned i = 0; i < sizeof ACTIVE / sizeof *ACTIVE; i++)
        if (strstr(out, ACTIVE[i]))
            return true;
    return false;
}

/* Names of tags and attributes have colons and dashes in them; a NUL inside one is nothing to some browsers. */
static inline uint32_t ps_html_name(const ps_text *text, uint32_t at, uint64_t *hash, uint64_t *local) {
    uint64_t whole = PS_HASH_START, part = PS_HASH_START;
    for (; at < text->length; at++) {
        uint8_t c = text->bytes[at];
        if (c == 0)
            continue;
        if (!ps_in_word(c) && c != '-' && c != ':')
            break;
        whole = ps_hash_step(whole, c);
        part = c == ':' ? PS_HASH_START : ps_hash_step(part, c);
    }
    *hash = ps_hash_end(whole);
    *local = ps_hash_end(part);
    return at;
}

static inline bool ps_html_attribute_ends(uint8_t c) { return ps_is_space(c) || c == '>' || c == '/' || c == '='; }

/* The attributes of the tag that begins at `tag`. */
static inline void ps_html_attributes(ps_html_scan *scan, uint32_t tag, uint32_t at) {
    const ps_text *text = scan->text;
    const uint8_t *bytes = text->bytes;
    uint32_t n = text->length, from = at;
    char url[PS_HTML_VALUE];
    while (at < n && bytes[at] != '>' && scan->budget > 0) {
        uint8_t c = bytes[at];
        uint64_t hash, local;
        if (!ps_is_letter(c)) {
            if (c == '<' && at > from)
                break;
            at++;
            scan->budget--;
            continue;
        }
        uint32_t start = at, name_end = ps_html_name(text, at, &hash, &local);
        int is = ps_words_get(scan->words, hash);
        if (is != HTML_EVENT && local != hash)
            is = ps_words_get(scan->words, local);
        for (at = name_end; at < n && !ps_html_attribute_ends(bytes[at]);)
            at++;
        uint32_t equals = at;
        while (equals < n && ps_is_space(bytes[equals]))
            equals++;
        bool has_value = equals < n && bytes[equals] == '=';
        bool on = name_end - start >= 5 && ps_at(text, start, "on");
        if (is == HTML_EVENT || (on && has_value)) {
            ps_html_find(scan, PS_XSS_HANDLER, start, has_value ? equals + 1 : at);
            return;
        }
        if (has_value) {
            uint32_t value = equals + 1, end;
            while (value < n && ps_is_space(bytes[value]))
                value++;
            uint8_t quote = value < n ? bytes[value] : 0;
            if (quote == '"' || quote == '\'' || quote == '`') {
                for (end = ++value; end < n && bytes[end] != quote;)
                    end++;
                at = end < n ? end + 1 : n;
            } else {
                for (end = value; end < n && !ps_is_space(bytes[end]) && bytes[end] != '>';)
                    end++;
                at = end;
            }
            ps_html_squeeze(text, value, end, url);
            const char *colon = strchr(url, ':');
            if (ps_html_url(url) || ps_html_hidden_host(url) ||
                (colon && (strstr(url, "url=javascript:") || strstr(url, "url=data:")))) {
                ps_html_find(scan, PS_XSS_URL, start, end);
                return;
            }
            if (is == HTML_ATTRIBUTE) {
                ps_html_find(scan, PS_XSS_MARKUP, start, end);
                return;
            }
            bool style = name_end - start == 5 && ps_at(text, start, "style");
            if (((style || strchr(url, '(')) && ps_html_style(text, value, end)) ||
                (style && ps_html_broken_style(text, value, end))) {
                ps_html_find(scan, PS_XSS_STYLE, start, end);
                return;
            }
        } else {
            at = equals > at ? equals : at;
        }
        scan->budget -= (int)(at - start);
    }
    ps_html_find(scan, PS_XSS_ANY_TAG, tag, at);
}

static inline void ps_html_tag(ps_html_scan *scan, uint32_t at) {
    const ps_text *text = scan->text;
    uint32_t n = text->length, name = at + 1;
    while (name < n && text->bytes[name] == 0)
        name++;
    if (name >= n)
        return;
    uint8_t c = text->bytes[name];
    if (c == '!') {
        if (ps_at(text, name, "!--#") || ps_at(text, name, "!entity") || ps_at(text, name, "![cdata[") ||
            ps_at(text, name, "!--[if") || ps_at(text, name, "!attlist"))
            ps_html_find(scan, PS_XSS_MARKUP, at, name + 6);
        return;
    }
    if (c == '?' || c == '%') {
        if (!ps_at(text, name, "?xml ") && name + 1 < n &&
            (ps_is_space(text->bytes[name + 1]) || text->bytes[name + 1] == '=' ||
             (c == '?' && ps_is_letter(text->bytes[name + 1]))))
            ps_html_find(scan, PS_XSS_MARKUP, at, name + 2);
        return;
    }
    bool closing = c == '/';
    name += closing;
    if (name >= n)
        return;
    if (!ps_is_letter(text->bytes[name])) {
        if (closing)
            ps_html_attributes(scan, at, name);
        return;
    }
    uint64_t hash, local;
    uint32_t end = ps_html_name(text, name, &hash, &local);
    int is = ps_words_get(scan->words, hash);
    is = is ? is : ps_words_get(scan->words, local);
    bool given = false; /* an attribute */
    for (uint32_t i = end; is == HTML_LOADED && i < n && i < end + PS_HTML_VALUE && text->bytes[i] != '>'; i++)
        given |= text->bytes[i] == '=';
    if (is == HTML_ACTIVE || given) {
        ps_html_find(scan, PS_XSS_TAG, at, end);
        return;
    }
    ps_html_attributes(scan, at, end);
}

/* Where a quote stands that a sign is behind, so that the value means to leave a string; the end if there is none. */
static inline uint32_t ps_html_leaves_quotes(const ps_text *text) {
    for (uint32_t i = 0; i < text->length; i++) {
        uint8_t c = text->bytes[i];
        if (c != '\'' && c != '"' && c != '`')
            continue;
        uint32_t next = i + 1;
        while (next < text->length && ps_is_space(text->bytes[next]))
            next++;
        if (next < text->length && strchr(";+-*/,|&^<>})=%?:]", text->bytes[next]) && text->bytes[next])
            return i;
    }
    return text->length;
}

/* Is no word of a sentence before the call at `at`? What it belongs to, as window. or String., is no such word. */
static inline bool ps_html_stands_alone(const ps_text *text, uint32_t at) {
    while (at > 0 && (ps_in_word(text->bytes[at - 1]) || text->bytes[at - 1] == '.'))
        at--;
    bool spaced = at > 0 && ps_is_space(text->bytes[at - 1]);
    while (at > 0 && ps_is_space(text->bytes[at - 1]))
        at--;
    if (at == 0) { /* then nothing of a sentence may be behind it */
        uint32_t behind = 0;
        while (behind < text->length && text->bytes[behind] != ')')
            behind++;
        for (behind++; behind < text->length && ps_is_space(text->bytes[behind]);)
            behind++;
        return behind >= text->length || !ps_is_letter(text->bytes[behind]);
    }
    uint8_t c = text->bytes[at - 1];
    return !ps_in_word(c) && c < 0x80 && !(spaced && strchr(",.:?!)={", c));
}

/* Words outside tags: handlers of a tag that the page wrote, and calls in a script that it did. */
static inline void ps_html_outside(ps_html_scan *scan) {
    const ps_text *text = scan->text;
    const uint8_t *bytes = text->bytes;
    uint32_t n = text->length;
    char url[PS_HTML_VALUE];
    bool quote = false;
    uint32_t code = n, opened = 0; /* behind the last sign of code; the first '<' */
    while (code > 0 && !strchr("(`=&", bytes[code - 1]))
        code--;
    while (opened < n && bytes[opened] != '<')
        opened++;
    scan->left_quotes = scan->has & (PS_HAS_QUOTE | PS_HAS_SHELL) ? ps_html_leaves_quotes(text) : n;
    for (uint32_t i = 0; i < n;) {
        if (!ps_is_letter(bytes[i])) {
            quote |= bytes[i] == '\'' || bytes[i] == '"' || bytes[i] == '>' || bytes[i] == '`';
            i++;
            continue;
        }
        uint32_t start = i;
        uint64_t hash = PS_HASH_START;
        for (; i < n && ps_in_word(bytes[i]); i++)
            hash = ps_hash_step(hash, bytes[i]);
        uint32_t length = i - start;
        bool on = length > 4 && (bytes[start] | 0x20) == 'o' && (bytes[start + 1] | 0x20) == 'n';
        uint32_t next = i;
        while (next < n && ps_is_space(bytes[next]))
            next++;
        uint8_t c = next < n ? bytes[next] : 0;
        if (!on && c != '(' && c != '`' && c != '=' && c != ':' && c != ')' && c != '\'' && c != '"')
            continue;
        int is = ps_words_get(scan->words, ps_hash_end(hash));
        uint32_t ahead = start; /* what stands before it, spaces apart */
        while (ahead > 0 && ps_is_space(bytes[ahead - 1]))
            ahead--;
        uint8_t before = ahead > 0 ? bytes[ahead - 1] : ' ';
        if (is == HTML_EVENT && c == '=' && next + 1 < n) {
            if (before == ',' || before == '(' || before == '.' || before == '=')
                continue; /* somebody's code */
            if (quote || (code > next + 1 && (start == 0 || !ps_in_word(bytes[start - 1]))))
                ps_html_find(scan, PS_XSS_HANDLER, start, next + 1);
        } else if (is == HTML_CALL && (c == '(' || (c == '`' && before != '`' && next == i))) {
            bool dialog = ps_at(text, start, "alert") || ps_at(text, start, "confirm") || ps_at(text, start, "prompt") ||
                          (start == 0 && !(scan->has & PS_HAS_SPACE) && ps_at(text, start, "eval")) ||
                          (ps_at(text, start, "fromcharcode") && next + 1 < n && ps_is_digit(bytes[next + 1]));
            ps_html_find(scan,
                         scan->left_quotes < start || (dialog && ps_html_stands_alone(text, start)) ? PS_XSS_SCRIPT
                                                                                                    : PS_XSS_LONE_CALL,
                         start, next + 1);
        } else if (is == HTML_CALL && next == i && next + 1 < n && start > 0 && ps_at(text, start, "alert") &&
                   ((c == ')' && bytes[next + 1] == '(') || (c == bytes[start - 1] && bytes[next + 1] == ']'))) {
            ps_html_find(scan, PS_XSS_SCRIPT, start, next + 1); /* (alert)(1), self['alert'](1) */
        } else if (c == ':' && next == i && start > 0 && (ps_at(text, start, "javascript:") || ps_at(text, start, "vbscript:"))) {
            if (strchr("\"'=`", bytes[start - 1]) && bytes[start - 1] && !(scan->has & PS_HAS_SPACE))
                ps_html_find(scan, PS_XSS_URL, start, next + 1);
        } else if (c == '=' && length == 8 && next + 1 < n && bytes[next + 1] != '=' && start >= 7 &&
                   (ps_at(text, start - 7, "window.location") || ps_at(text, start - 7, "parent.location"))) {
            ps_html_find(scan, ps_html_stands_alone(text, start - 7) ? PS_XSS_SCRIPT : PS_XSS_LONE_CALL, start - 7, next + 1);
        } else if ((c == '=' || c == '(') && start >= 9 && ps_at(text, start - 9, "document.") &&
                   (ps_at(text, start, "cookie") || ps_at(text, start, "location") || ps_at(text, start, "domain") ||
                    ps_at(text, start, "write"))) {
            bool same = next + 1 < n && bytes[next + 1] == '=';
            if (!same)
                ps_html_find(
                    scan, scan->left_quotes < start || ps_html_stands_alone(text, start - 9) ? PS_XSS_SCRIPT : PS_XSS_LONE_CALL,
                    start - 9, next + 1);
        } else if (c == '=' && quote && !(scan->has & PS_HAS_ANGLE) && length == 5 && ps_at(text, start, "style") &&
                   ps_html_style(text, next, n)) {
            ps_html_find(scan, PS_XSS_STYLE, start, n);
        }
    }
    for (uint32_t i = 0; i + 2 < n && scan->has & PS_HAS_ANGLE; i++) /* out of an attribute, out of its tag, into another */
        if ((bytes[i] == '"' || bytes[i] == '\'') && bytes[i + 1] == '>' && bytes[i + 2] == '<' && i + 3 < n &&
            bytes[i + 3] != '/' && opened > i)
            ps_html_find(scan, PS_XSS_MARKUP, i, i + 3);
    for (uint32_t i = 0; i + 3 < n && scan->has & PS_HAS_SHELL; i++)
        if (bytes[i] == '&' && bytes[i + 1] == '{' && memchr(bytes + i, '}', n - i))
            ps_html_find(scan, PS_XSS_MARKUP, i, i + 2);
    ps_html_squeeze(text, 0, n, url);
    const char *trimmed = url;
    while (*trimmed == '>' || *trimmed == ';' || *trimmed == '/')
        trimmed++;
    if (ps_html_url(trimmed)) {
        const char *code = strchr(trimmed, ':') + 1;
        bool data = trimmed[0] == 'd';
        size_t word = strspn(code, "abcdefghijklmnopqrstuvwxyz0123456789_$.");
        if (data ? ps_starts(code, "text/html") || ps_starts(code, "text/xml") || ps_starts(code, "image/svg") ||
                       ps_starts(code, "text/javascript") || ps_starts(code, "application/x")
            : trimmed[0] != 'j' || trimmed[1] == 'a'
                ? strchr("(=[/`{%;", code[word]) && (code[word] || strchr(code, '.')) && strpbrk(code, "(=`")
                : false)
            ps_html_find(scan, PS_XSS_URL, 0, n);
    }
}

static inline void ps_scan_html(const ps_words *words, const ps_text *text, uint32_t has, ps_findings *found) {
    ps_html_scan scan = {words, text, found, has, PS_HTML_BUDGET, text->length};
    if (has & PS_HAS_ANGLE) {
        for (uint32_t i = 0; i < text->length && scan.budget > 0; i++)
            if (text->bytes[i] == '<')
                ps_html_tag(&scan, i);
        if (found->paranoia >= 4)
            ps_html_find(&scan, PS_XSS_ANGLE, 0, text->length);
    }
    if (has & PS_HAS_LETTER && has & (PS_HAS_OPERATOR | PS_HAS_PAREN | PS_HAS_COLON | PS_HAS_SHELL))
        ps_html_outside(&scan);
    if (has & PS_HAS_PLUS)
        for (uint32_t i = 0; i + 5 < text->length; i++)
            if (text->bytes[i] == '+' && (ps_at(text, i, "+adw-") || ps_at(text, i, "+ad4-")))
                ps_html_find(&scan, PS_XSS_MARKUP, i, i + 5);
}

#endif
