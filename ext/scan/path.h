/* Path traversal: does the value climb out of a directory, or name a file that nobody is meant to ask for?
 *
 * Both slashes are one here, and 0x2e, 0x2f and 0x5c are what they stand for. */
#ifndef PENSTOCK_PATH_H
#define PENSTOCK_PATH_H

#include "finding.h"
#include "text.h"
#include <stdbool.h>
#include <string.h>

#define PS_PATH_PADDING 200 /* no name has so many of one letter; what cuts names off is fed with them */

typedef struct {
    uint8_t bytes[PS_WINDOW + 1];
    uint16_t from[PS_WINDOW + 1];
    uint32_t length;
} ps_path;

/* Files and folders as attackers ask for them; a slash here may be missing there, and be any number of them. */
static const char *const PS_PATH_FILES[] = {
    "etc/passwd", "etc/shadow", "etc/group", "etc/hosts", "etc/issue", "etc/motd", "etc/sudoers", "etc/crontab", "etc/fstab",
    "etc/my.cnf", "etc/mysql/", "etc/ssh/", "etc/apache", "etc/httpd/", "etc/nginx/", "etc/security/", "etc/resolv.conf",
    "etc/master.passwd", "proc/self/", "proc/version", "proc/cpuinfo", "proc/cmdline", "proc/net/", "var/log/apache", "var/log/nginx",
    "var/log/httpd", "var/log/auth", "var/log/mail", "var/log/messages", "var/log/syslog",
    "root/.ssh", ".ssh/id_rsa", ".ssh/authorized_keys", ".bash_history", ".aws/credentials", ".git/config", ".git/head",
    ".svn/entries", ".htpasswd", ".htaccess", "web-inf/", "meta-inf/", "boot.ini", "win.ini", "system.ini", "autoexec.bat",
    "windows/system32", "winnt/", "windows/repair", "inetpub/wwwroot", "inetpub/logs", "global.asa", "web.config",
    "wp-config.php", "php.ini", "httpd.conf", "id_rsa", "pagefile.sys", "ntuser.dat",
};

static inline bool ps_path_cuts(uint8_t c) {
    return ps_is_space(c) || c == '"' || c == '\'' || c == '=' || c == '(' || c == ')' || c == '<' || c == '>' || c == ',' ||
           c == ';' || c == '?' || c == '&' || c == '|' || c == '`' || c == '[' || c == ']';
}

static inline void ps_path_read(const ps_text *text, ps_path *path) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < text->length; n++) {
        uint8_t c = text->bytes[i];
        path->from[n] = (uint16_t)i++;
        if (c == '0' && i + 2 < text->length && (text->bytes[i] | 0x20) == 'x') {
            int high = ps_hex(text->bytes[i + 1]), low = ps_hex(text->bytes[i + 2]), code = high * 16 + low;
            if (high >= 0 && low >= 0 && (code == '.' || code == '/' || code == '\\')) {
                c = (uint8_t)code;
                i += 3;
            }
        }
        if (c == ';' && n > 1 && path->bytes[n - 1] == '.' && path->bytes[n - 2] == '.' && i < text->length &&
            text->bytes[i] == '/')
            path->from[n] = (uint16_t)i++, c = '/'; /* ..;/ is ../ to some servers */
        path->bytes[n] = c == '\\' ? '/' : ps_lower(c);
    }
    path->length = n;
    path->from[n] = (uint16_t)text->length;
}

/* Does the file's name stand at `at`? Where it ends, or 0. loose: with its slashes left out. */
static inline uint32_t ps_path_named(const ps_path *path, uint32_t at, uint32_t end, const char *name, bool loose) {
    for (; *name; name++) {
        if (*name == '/') {
            bool any = false;
            while (at < end &&
                   (path->bytes[at] == '/' || (any && path->bytes[at] == '.' && at + 1 < end && path->bytes[at + 1] == '/'))) {
                at++;
                any = true;
            }
            if (!any && !loose)
                return 0;
        } else {
            if (at >= end || path->bytes[at] != (uint8_t)*name)
                return 0;
            at++;
        }
    }
    return at;
}

typedef struct {
    const ps_text *text;
    const ps_path *path;
    ps_findings *found;
} ps_path_scan;

static inline void ps_path_find(const ps_path_scan *scan, int rule, uint32_t start, uint32_t end) {
    ps_find(scan->found, rule, ps_origin(scan->text, scan->path->from[start]), ps_origin(scan->text, scan->path->from[end]));
}

static inline bool ps_path_wrapped(const ps_path *path, uint32_t at, uint32_t end) {
    static const char *const WRAPPERS[] = {
        "file:/", "php:/", "expect:/", "zip:/", "phar:/", "glob:/", "gopher:/", "dict:/", "netdoc:/",
        "compress.zlib:/", "compress.bzip2:/", "data:/", "ogg:/", "rar:/",
    };
    for (unsigned i = 0; i < sizeof WRAPPERS / sizeof *WRAPPERS; i++) {
        uint32_t length = (uint32_t)strlen(WRAPPERS[i]);
        if (at + length < end && memcmp(path->bytes + at, WRAPPERS[i], length) == 0 && path->bytes[at + length] == '/')
            return true;
    }
    return false;
}

/* One run of bytes without spaces or quotes. whole: nothing else is in the value; first: nothing is before it, or '='. */
static inline void ps_path_run(const ps_path_scan *scan, uint32_t start, uint32_t end, bool whole, bool first) {
    const ps_path *path = scan->path;
    const uint8_t *bytes = path->bytes;
    int climbs = 0, here = 0, wide = 0, slashes = 0, most_slashes = 0, depth = 0, lowest = 0;
    uint32_t dots = 0, most_dots = 0, same = 0, last_climb = end;
    bool padded = false, stuck = false; /* one letter over and over; /.. and then a sign that no name begins with */
    for (uint32_t i = start; i <= end; i++) {
        uint8_t c = i < end ? bytes[i] : '/';
        if (c == '.') {
            dots++;
            continue;
        }
        same = i > start && c == bytes[i - 1] ? same + 1 : 0;
        padded |= same >= PS_PATH_PADDING;
        bool begins = i - dots == start || bytes[i - dots - 1] == '/';
        if (dots > most_dots)
            most_dots = dots;
        if (c == '/' && i > start && !begins)
            depth++;
        if (begins && dots == 2 && i > start + 2 && c != '/' && !ps_in_word(c) && c != '-' && c < 0x80)
            stuck = true;
        if (c == '/' && begins && dots) {
            bool walled = i < end || i - dots > start; /* a slash on one side at least */
            if (dots == 1 && i < end)
                here++;
            if (dots == 2 && walled) {
                climbs++;
                last_climb = i;
                if (--depth < lowest)
                    lowest = depth;
            }
            if (dots >= 3 && walled)
                wide += 1 + (dots > 3 && i < end);
        }
        if (c == '/' && i < end) {
            slashes++;
            if (slashes > most_slashes && (i < start + (uint32_t)slashes))
                most_slashes = slashes;
        } else {
            slashes = 0;
        }
        dots = 0;
    }
    bool drive = end - start > 3 && ps_is_letter(bytes[start]) && bytes[start + 1] == ':';
    bool rooted = bytes[start] == '/' || drive;
    if (climbs) {
        bool sure = (climbs > 1 && (first || rooted)) || climbs > 2 || (lowest < 0 && (first || rooted));
        ps_path_find(scan, sure ? PS_PATH_CLIMB : PS_PATH_ONE_CLIMB, start, last_climb);
    }
    if (wide > 1 || here > 2 || (rooted && first && (most_dots > 5 || stuck || padded)) ||
        (first && most_slashes > 3 && start + (uint32_t)most_slashes < end))
        ps_path_find(scan, PS_PATH_DOTS, start, end);
    bool local =
        end > start + 7 && memcmp(bytes + start, "file://", 7) == 0 && bytes[start + 7] != '/'; /* beside, not at the root */
    if (ps_path_wrapped(path, start, end))
        ps_path_find(scan, first && !local ? PS_PATH_WRAPPER : PS_PATH_MENTION, start, end);
    if (end - start >= 5 && bytes[end - 1] == '}' && rooted) {
        static const char *const BLANKS[] = {"{file}", "{path}", "{filename}", "{filepath}"};
        for (unsigned i = 0; i < sizeof BLANKS / sizeof *BLANKS; i++) {
            uint32_t length = (uint32_t)strlen(BLANKS[i]);
            if (end - start > length && bytes[end - length - 1] != '#' && bytes[end - length - 1] != '$' &&
                memcmp(bytes + end - length, BLANKS[i], length) == 0)
                ps_path_find(scan, PS_PATH_BLANK, start, end);
        }
    }
    bool loose = drive || most_dots > 3;
    for (uint32_t i = start; i < end; i++) {
        bool edge = i == start || bytes[i - 1] == '/' || (loose && (bytes[i - 1] == '.' || bytes[i - 1] == ':'));
        if (!edge || (!ps_is_letter(bytes[i]) && bytes[i] != '.'))
            continue;
        for (unsigned k = 0; k < sizeof PS_PATH_FILES / sizeof *PS_PATH_FILES; k++) {
            if (PS_PATH_FILES[k][0] != (char)bytes[i])
                continue;
            uint32_t stop = ps_path_named(path, i, end, PS_PATH_FILES[k], loose);
            if (!stop)
                continue;
            bool sure = whole && (rooted || climbs || loose || bytes[i] == '.' || (i == start && strchr(PS_PATH_FILES[k], '/')));
            ps_path_find(scan, sure || (first && climbs) ? PS_PATH_FILE : PS_PATH_MENTION, start, stop);
            return;
        }
    }
}

static inline void ps_scan_path(const ps_text *text, uint32_t has, ps_path *path, ps_findings *found) {
    ps_path_scan scan = {text, path, found};
    if (!(has & (PS_HAS_SLASH | PS_HAS_DOT | PS_HAS_DIGIT | PS_HAS_ESCAPE)))
        return;
    if (!(has & PS_HAS_SLASH)) { /* then only dots in a row matter, or slashes written as 0x2f */
        bool worth = false;
        for (uint32_t i = 1; i < text->length && !worth; i++)
            worth = (text->bytes[i] == '.' && text->bytes[i - 1] == '.') || (text->bytes[i] == ':' && i == 1) ||
                    ((text->bytes[i] | 0x20) == 'x' && text->bytes[i - 1] == '0') || text->bytes[i] == 0;
        if (!worth && !(has & PS_HAS_COLON))
            return;
    }
    ps_path_read(text, path);
    uint32_t n = path->length, start = 0;
    while (n && ps_is_space(path->bytes[n - 1]) && path->bytes[n - 1])
        n--;
    while (start < n && ps_is_space(path->bytes[start]))
        start++;
    uint32_t begin = start;
    for (uint32_t i = start; i <= n; i++) {
        if (i < n && !ps_path_cuts(path->bytes[i]))
            continue;
        if (i > start)
            ps_path_run(&scan, start, i, start == begin && (i == n || path->bytes[i] == 0),
                        start == begin || path->bytes[start - 1] == '=');
        if (i + 1 < n && path->bytes[i] == 0 && path->bytes[i + 1] == '.' && i > begin) {
            uint32_t end = i + 2;
            while (end < n && ps_in_word(path->bytes[end]))
                end++;
            if (end == n && end > i + 3 && end < i + 8)
                ps_path_find(&scan, PS_PATH_NUL, begin, end);
        }
        start = i + 1;
    }
}

#endif
