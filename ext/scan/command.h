/* Command injection: would a shell that got the value run another program?
 *
 * Many programs have the names of English words, so a name alone is nothing: it must stand where a command can, and what is
 * behind it must be the end of a command, or look like arguments. */
#ifndef PENSTOCK_COMMAND_H
#define PENSTOCK_COMMAND_H

#include "finding.h"
#include "text.h"
#include "words.h"
#include <stdbool.h>

enum {
    COMMAND_PLAIN = 1, /* no word of any language */
    COMMAND_SHORT,     /* two letters that are words, too: glued to its sign, or nothing */
    COMMAND_ENGLISH,   /* a word: needs arguments */
    COMMAND_CALLS,     /* functions of languages that run commands */
};

static inline void ps_command_words(ps_words *words) {
    ps_words_add(
        words,
        "ls cp mv rm pwd chmod chown chgrp mkdir rmdir ln uname whoami ifconfig ipconfig netstat wget curl nc ncat netcat tftp "
        "scp nslookup dig traceroute tracert nmap ping6 fping powershell pwsh "
        "tasklist taskkill systeminfo wmic certutil bitsadmin regsvr32 rundll32 mshta cscript wscript schtasks net1 awk gawk "
        "sed grep egrep fgrep xargs useradd usermod adduser visudo sudo crontab getent lsof lscpu lsblk dmesg df du printenv "
        "tee nohup chroot mkfifo mknod xxd objdump gdb busybox uptime hostname arp "
        "iptables systemctl mysqldump ifup wc uniq tac htop vmstat",
        COMMAND_PLAIN);
    ps_words_add(words, "id ps sh w dir env set ver bash zsh ksh csh tcsh dash", COMMAND_SHORT);
    ps_words_add(
        words,
        "cmd cat cut find sort head tail more less kill who echo sleep date time host last man make top split touch test true "
        "false type copy move del erase net start service mail strings which read ping passwd printf python php ruby node "
        "python2 python3 perl lua gcc cc mysql psql sqlite3 vim vi nano apt yum dpkg rpm telnet ssh ftp "
        "java tar zip unzip gzip finger reboot shutdown halt mount export source exec eval su reg attrib tree diff patch "
        "base64 file stat locate timeout watch at sc rev nl od",
        COMMAND_ENGLISH);
    ps_words_add(
        words,
        "system passthru shell_exec popen proc_open pcntl_exec phpinfo proc_close expect_popen call_user_func "
        "create_function assert getruntime processbuilder child_process execsync spawnsync check_output file_get_contents",
        COMMAND_CALLS);
}

typedef struct {
    const ps_words *words;
    const ps_text *text;
    ps_findings *found;
    uint32_t lines; /* newlines: who posts many posts a text, and its lines begin with anything */
} ps_command_scan;
#define PS_COMMAND_LINES 2

static inline void ps_command_find(const ps_command_scan *scan, int rule, uint32_t start, uint32_t end) {
    ps_find(scan->found, rule, ps_origin(scan->text, start), ps_origin(scan->text, end));
}

static inline uint8_t ps_command_byte(const ps_text *text, uint32_t at) { return at < text->length ? text->bytes[at] : 0; }

/* The folder of programs at `at`: how many bytes it has, 0 if it is none. */
static inline uint32_t ps_command_folder(const ps_text *text, uint32_t at) {
    static const char *const FOLDERS[] = {
        "/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/", "/usr/local/bin/", "c:\\windows\\system32\\",
        "c:/windows/system32/", "\\windows\\system32\\",
    };
    for (unsigned i = 0; i < sizeof FOLDERS / sizeof *FOLDERS; i++)
        if (ps_at(text, at, FOLDERS[i]))
            return (uint32_t)strlen(FOLDERS[i]);
    return 0;
}

enum { ARGUMENTS_NONE, ARGUMENTS_CLOSED, ARGUMENTS_WORDS, ARGUMENTS_NUMBER, ARGUMENTS_SHAPED, ARGUMENTS_NOT };

/* What is behind a command's name: its end, a sign that ends it, words, or what only a command's arguments look like. */
static inline int ps_command_arguments(const ps_text *text, uint32_t at) {
    uint8_t c = ps_command_byte(text, at);
    if (at >= text->length)
        return ARGUMENTS_NONE;
    if (c == ';' || c == '|' || c == '&' || c == '`' || c == ')' || c == '\'' || c == '"' || c == '#' || c == '\n' || c == '>' ||
        c == '<' || c == 0)
        return ARGUMENTS_CLOSED;
    if (c == '\\' && (ps_command_byte(text, at + 1) == 'n' || ps_command_byte(text, at + 1) == 'r'))
        return ARGUMENTS_CLOSED; /* a newline written as two characters */
    if (c == '$' && ps_at(text, at, "${ifs}"))
        return ARGUMENTS_SHAPED;
    if (!ps_is_space(c) && c != '+')
        return ARGUMENTS_NOT;
    while (at < text->length && (ps_is_space(text->bytes[at]) || text->bytes[at] == '+'))
        at++;
    if (at >= text->length)
        return ARGUMENTS_NONE;
    c = text->bytes[at];
    if (c == '|' || c == ';' || c == '&' || c == '#' || c == '`' || c == '>' || c == '<' || c == '"' || c == '\'')
        return ARGUMENTS_CLOSED;
    if ((c == '-' && ps_in_word(ps_command_byte(text, at + 1))) || c == '/' || c == '$' || c == '*' || c == '\\' || c == '~')
        return ARGUMENTS_SHAPED;
    uint32_t start = at, signs = 0, digits = 0, dots = 0;
    for (; at < text->length && !ps_is_space(text->bytes[at]) && !strchr(";|&`)'\"", text->bytes[at]); at++) {
        c = text->bytes[at];
        bool dot = c == '.' && at + 1 < text->length && ps_in_word(text->bytes[at + 1]);
        bool port = c == ':' && at + 1 < text->length && !ps_is_space(text->bytes[at + 1]);
        signs += c == '/' || port || c == '\\' || c == '*' || dot;
        dots += dot;
        digits += ps_is_digit(c);
    }
    bool version = dots == signs && ps_is_digit(text->bytes[start]) && !(dots == 3 && digits + 3 == at - start);
    if (signs && !version) /* 3.10 and 1.7.0_65 are none, 127.0.0.1 is */
        return ARGUMENTS_SHAPED;
    if (digits && digits == at - start) {
        while (at < text->length && ps_is_space(text->bytes[at]))
            at++;
        c = ps_command_byte(text, at);
        return at >= text->length || c == ';' || c == '|' || c == '&' || c == '#' || c == '`' || c == ')' ? ARGUMENTS_NUMBER
                                                                                                          : ARGUMENTS_WORDS;
    }
    return ARGUMENTS_WORDS;
}

/* Is the back quote at `sign` that of code in a text, or the end of one? second: of a pair. */
static inline bool ps_command_quoted(const ps_text *text, uint32_t sign, bool second) {
    uint32_t end = sign + 1;
    if (second || (sign > 0 && (ps_is_space(text->bytes[sign - 1]) || strchr("([*_-,/", text->bytes[sign - 1]))))
        return true;
    if (ps_command_byte(text, end) == '`')
        return true;
    if (sign > 0)
        return false;
    while (end < text->length && text->bytes[end] != '`')
        end++;
    uint32_t behind = end + 1;
    while (behind < text->length && ps_is_space(text->bytes[behind]))
        behind++;
    return behind < text->length && behind > end + 1 && ps_is_letter(text->bytes[behind]);
}

/* Does the ';' end an HTML entity? */
static inline bool ps_command_entity(const ps_text *text, uint32_t at) {
    uint32_t i = at;
    while (i > 0 && at - i < 10 && (ps_in_word(text->bytes[i - 1]) || text->bytes[i - 1] == '#'))
        i--;
    return i > 0 && i < at && text->bytes[i - 1] == '&';
}

/* A command behind the sign at `sign`. */
static inline void ps_command_behind(const ps_command_scan *scan, uint32_t sign, bool second) {
    const ps_text *text = scan->text;
    uint32_t at = sign, n = text->length, signs = 0;
    uint8_t first = text->bytes[sign];
    bool spaced = false;
    for (; at < n && at < sign + 32; at++) {
        uint8_t c = text->bytes[at];
        if (c == '`' && at > sign && first != '`' && spaced)
            return; /* told at that sign */
        spaced |= c == '\n' && at > sign;
        if (c == ';' || c == '|' || c == '&' || c == '`' || c == '\n' || c == '\r')
            signs++;
        else if (ps_is_space(c) || c == '+')
            spaced = true;
        else if (c != '(' && c != '{' && c != '$' && c != '"' && c != '\'')
            break;
    }
    bool substituted = first == '$' || first == '`';
    uint32_t folder = ps_command_folder(text, at), start = at + folder;
    uint64_t hash = PS_HASH_START;
    uint32_t end = start;
    for (; end < n; end++) {
        uint8_t c = text->bytes[end], next = ps_command_byte(text, end + 1);
        if (end > start &&
            ((c == '\\' && ps_is_letter(next) && next != 'n' && next != 'r') || ((c == '\'' || c == '"') && next == c)))
            end += c != '\\'; /* c\at and c''at are cat */
        else if (ps_in_word(c))
            hash = ps_hash_step(hash, c);
        else
            break;
    }
    if (end == start || end - start > 20)
        return;
    int is = ps_words_get(scan->words, ps_hash_end(hash));
    if (is == 0 || is == COMMAND_CALLS)
        return;
    if (ps_at(text, end, ".exe")) {
        end += 4;
        is = COMMAND_PLAIN;
    }
    int arguments = ps_command_arguments(text, end);
    if (arguments == ARGUMENTS_NOT)
        return;
    if (arguments == ARGUMENTS_NUMBER) {
        bool counts = ps_at(text, start, "sleep") || ps_at(text, start, "ping") || ps_at(text, start, "echo") ||
                      ps_at(text, start, "timeout");
        arguments = counts ? ARGUMENTS_SHAPED : ARGUMENTS_WORDS;
    }
    if (arguments == ARGUMENTS_WORDS && ps_at(text, start, "net ") &&
        (ps_at(text, end + 1, "user") || ps_at(text, end + 1, "localgroup") || ps_at(text, end + 1, "view") ||
         ps_at(text, end + 1, "share")))
        arguments = ARGUMENTS_SHAPED;
    if (first == '\n' && scan->lines > PS_COMMAND_LINES) {
        ps_command_find(scan, PS_COMMAND_WEAK, sign, end);
        return;
    }
    if (first == '`' && ps_command_quoted(text, sign, second)) {
        ps_command_find(scan, PS_COMMAND_WEAK, sign, end);
        return;
    }
    bool heads = sign == 0 || (sign == 1 && (text->bytes[0] == '"' || text->bytes[0] == '\''));
    bool glued = !spaced, closed = arguments == ARGUMENTS_CLOSED, none = arguments == ARGUMENTS_NONE, sure;
    if (folder) {
        sure = true;
    } else if (arguments == ARGUMENTS_SHAPED) {
        sure = first != '\n' || is != COMMAND_ENGLISH || heads;
        if (first == '&' && signs < 2 && glued && is != COMMAND_PLAIN)
            sure = false;
    } else if (substituted) {
        bool whole = sign == 0 && ps_command_byte(text, n - 1) == '`';
        sure = (closed && (is != COMMAND_ENGLISH || first == '$' || whole)) || (is == COMMAND_PLAIN && !none);
    } else if (first == '&' && signs < 2) {
        sure = (is == COMMAND_PLAIN || (is == COMMAND_SHORT && heads)) && arguments != ARGUMENTS_WORDS;
    } else if (first == '\n' || first == '\r') {
        sure = (is == COMMAND_PLAIN && closed) || (heads && is != COMMAND_ENGLISH && (closed || none));
    } else if (is == COMMAND_PLAIN) {
        sure = none || closed || glued;
    } else if (is == COMMAND_SHORT) {
        uint8_t stop = ps_command_byte(text, end);
        sure = (none || (closed && stop != '\'' && stop != '"')) && (glued || heads);
    } else {
        sure = closed && glued && signs > 1;
    }
    ps_command_find(scan, sure ? (substituted ? PS_COMMAND_SUBSTITUTED : PS_COMMAND_CHAINED) : PS_COMMAND_WEAK, sign, end);
}

/* Calls of functions that run commands, where a script's string was left. */
static inline void ps_command_call(const ps_command_scan *scan, uint32_t start, uint32_t end) {
    const ps_text *text = scan->text;
    uint8_t open = ps_command_byte(text, end), argument = ps_command_byte(text, end + 1);
    if (open != '(')
        return;
    uint8_t head = text->bytes[0];
    bool left = start > 0 && (head == '"' || head == '\'' || head == ';' || head == '}' || head == ')' || head == '$' ||
                              head == '{' || head == '@' || head == '<' || head == '`');
    bool behind = start > 0 && (text->bytes[start - 1] == ';' || text->bytes[start - 1] == '@' || text->bytes[start - 1] == '.' ||
                                text->bytes[start - 1] == '{' || text->bytes[start - 1] == '|');
    bool shaped = argument == '\'' || argument == '"' || argument == '$' || argument == ')' || argument == '`' || argument == 'c';
    uint32_t word = end + 2;
    while (word < text->length && ps_is_space(text->bytes[word]))
        word++;
    word += ps_command_folder(text, word);
    uint64_t hash = PS_HASH_START;
    for (; ps_in_word(ps_command_byte(text, word)); word++)
        hash = ps_hash_step(hash, text->bytes[word]);
    int is = argument == '\'' || argument == '"' ? ps_words_get(scan->words, ps_hash_end(hash)) : 0;
    bool runs = is && is != COMMAND_CALLS && (start == 0 || !ps_is_space(text->bytes[start - 1]));
    if (shaped)
        ps_command_find(scan, left || runs || (behind && text->bytes[start - 1] != '.') ? PS_COMMAND_CODE : PS_COMMAND_WEAK,
                        start, end + 1);
}

static inline void ps_scan_command(const ps_words *words, const ps_text *text, uint32_t has, ps_findings *found) {
    ps_command_scan scan = {words, text, found, 0};
    const uint8_t *bytes = text->bytes;
    uint32_t n = text->length, begin = 0;
    if (has & PS_HAS_SLASH) {
        while (begin < n && (ps_is_space(bytes[begin]) || bytes[begin] == '"' || bytes[begin] == '\''))
            begin++;
        uint32_t folder = begin < n ? ps_command_folder(text, begin) : 0, end = begin + folder;
        uint64_t hash = PS_HASH_START;
        for (; end < n && ps_in_word(bytes[end]); end++)
            hash = ps_hash_step(hash, bytes[end]);
        int is = ps_words_get(words, ps_hash_end(hash));
        uint32_t shell = ps_at(text, begin, "cmd.exe ") ? begin + 8 : ps_at(text, begin, "cmd ") ? begin + 4 : n;
        if (ps_at(text, shell, "/c ") || ps_at(text, shell, "/k "))
            ps_command_find(&scan, PS_COMMAND_PATH, begin, shell + 2);
        if (folder && end > begin + folder && is)
            ps_command_find(&scan, PS_COMMAND_PATH, begin, end);
        if (!folder && is && is != COMMAND_CALLS) { /* a whole command line that reads what it must not */
            uint32_t argument = end;
            while (argument < n && ps_is_space(bytes[argument]))
                argument++;
            if (argument > end && (ps_at(text, argument, "/etc/passwd") || ps_at(text, argument, "/etc/shadow")))
                ps_command_find(&scan, PS_COMMAND_PATH, begin, n);
        }
        for (uint32_t i = 0; i + 2 < n; i++) /* newlines as two characters */
            if (bytes[i] == '\\' && (bytes[i + 1] == 'n' || bytes[i + 1] == 'r') && ps_command_folder(text, i + 2))
                ps_command_behind(&scan, i + 2, false);
        for (uint32_t i = 0; i + 9 < n; i++)
            if (bytes[i] == '/' && (ps_at(text, i, "/dev/tcp/") || ps_at(text, i, "/dev/udp/")))
                ps_command_find(&scan, PS_COMMAND_SHELL, i, i + 9);
    }
    if (has & PS_HAS_ANGLE && has & PS_HAS_HASH)
        for (uint32_t i = 0; i + 9 < n; i++)
            if (bytes[i] == '<' && ps_at(text, i, "<!--#exec"))
                ps_command_find(&scan, PS_COMMAND_CODE, i, i + 9);
    if (has & PS_HAS_PAREN && has & (PS_HAS_QUOTE | PS_HAS_SHELL)) {
        for (uint32_t i = 0; i < n;) {
            uint32_t start = i;
            uint64_t hash = PS_HASH_START;
            for (; i < n && ps_in_word(bytes[i]); i++)
                hash = ps_hash_step(hash, bytes[i]);
            if (i > start && i < n && bytes[i] == '(' &&
                (ps_words_get(words, ps_hash_end(hash)) == COMMAND_CALLS || (i == start + 4 && ps_at(text, start, "exec"))))
                ps_command_call(&scan, start, i);
            i += i == start;
        }
        if (ps_at(text, 0, "() {") || ps_at(text, 0, "(){"))
            ps_command_find(&scan, PS_COMMAND_SHELL, 0, n);
    }
    if (ps_at(text, 0, "\\n")) { /* a newline written so, and a command */
        uint32_t end = 2;
        uint64_t hash = PS_HASH_START;
        for (; end < n && ps_in_word(bytes[end]); end++)
            hash = ps_hash_step(hash, bytes[end]);
        int is = ps_words_get(words, ps_hash_end(hash)), arguments = ps_command_arguments(text, end);
        if ((is == COMMAND_PLAIN || is == COMMAND_SHORT) && (arguments == ARGUMENTS_CLOSED || arguments == ARGUMENTS_SHAPED))
            ps_command_find(&scan, PS_COMMAND_CHAINED, 0, end);
    }
    if (!(has & PS_HAS_SHELL))
        return;
    uint32_t quotes = 0;
    for (uint32_t i = 0; i < n; i++)
        scan.lines += bytes[i] == '\n';
    for (uint32_t i = 0; i < n; i++) {
        uint8_t c = bytes[i], next = ps_command_byte(text, i + 1);
        if (c == '$') {
            if (ps_at(text, i, "${ifs") || ps_at(text, i, "$ifs$") || ps_at(text, i, "${jndi:") || ps_at(text, i, "${env:"))
                ps_command_find(&scan, PS_COMMAND_SHELL, i, i + 6);
            if (next == '(' || next == '{')
                ps_command_behind(&scan, i, false);
        } else if (c == ';' || c == '|' || c == '&' || c == '`' || c == '\n') {
            bool run = i > 0 && (bytes[i - 1] == c || bytes[i - 1] == '|' || bytes[i - 1] == '&' ||
                                 bytes[i - 1] == ';'); /* told at its first sign */
            if (!run && !(c == ';' && ps_command_entity(text, i)))
                ps_command_behind(&scan, i, quotes % 2);
            quotes += c == '`';
        }
    }
    uint32_t end = 0; /* a name and a pipe, and nothing else */
    uint64_t hash = PS_HASH_START;
    for (; end < n && ps_in_word(bytes[end]); end++)
        hash = ps_hash_step(hash, bytes[end]);
    if (end && end + 1 == n && (bytes[end] == '|' || bytes[end] == ';')) {
        int is = ps_words_get(words, ps_hash_end(hash));
        if (is == COMMAND_PLAIN || is == COMMAND_SHORT)
            ps_command_find(&scan, bytes[end] == '|' ? PS_COMMAND_CHAINED : PS_COMMAND_WEAK, 0, n);
    }
    if (found->paranoia >= 4)
        ps_command_find(&scan, PS_COMMAND_SIGN, 0, n);
}

#endif
