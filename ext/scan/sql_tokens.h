/* SQL as tokens: what a database would read where a value was pasted into a query, outside quotes or inside them. */
#ifndef PENSTOCK_SQL_TOKENS_H
#define PENSTOCK_SQL_TOKENS_H

#include "text.h"
#include "words.h"
#include <stdbool.h>

/* What a word means. Below WORD are no words at all. */
enum {
    SQL_NONE, SQL_NUMBER, SQL_STRING, SQL_VARIABLE, SQL_OPEN, SQL_CLOSE, SQL_COMMA, SQL_SEMICOLON, SQL_COMPARE, SQL_OPERATOR,
    SQL_TAIL, /* a comment to the end */
    SQL_ASSIGN, SQL_BRACE, SQL_COLON, SQL_OTHER, SQL_LOGIC_SIGN, /* && */ SQL_BARS, /* || is OR here and concatenation there */
    SQL_WORD,
    SQL_SELECT, SQL_UNION, SQL_ALL, SQL_DISTINCT, SQL_FROM, SQL_WHERE, SQL_HAVING, SQL_GROUP, SQL_ORDER, SQL_BY, SQL_LIMIT,
    SQL_INTO, SQL_OUTFILE, SQL_INSERT, SQL_UPDATE, SQL_SET, SQL_DELETE, SQL_DROP, SQL_CREATE, SQL_ALTER, SQL_TRUNCATE,
    SQL_OBJECT, SQL_EXEC, SQL_DECLARE, SQL_WAITFOR, SQL_DELAY, SQL_IF, SQL_CASE, SQL_WHEN, SQL_THEN, SQL_ELSE, SQL_END,
    SQL_BEGIN, SQL_CALL, SQL_SHUTDOWN, SQL_PROCEDURE, SQL_ANALYSE, SQL_LOGIC, SQL_NOT, SQL_LIKE, SQL_BETWEEN, SQL_IN, SQL_IS,
    SQL_LITERAL, SQL_DIV, SQL_AS, SQL_JOIN, SQL_VALUES, SQL_REPLACE, SQL_LOAD, SQL_GRANT, SQL_COLLATE, SQL_BINARY, SQL_FOR,
    SQL_GOTO, SQL_PRINT, SQL_WHILE, SQL_TYPE, SQL_TOP, SQL_EXISTS, SQL_ROW, SQL_SYSTEM, SQL_FUNCTION, SQL_WEAPON, SQL_CONSTANT,
    SQL_SOUNDS, SQL_DATA,
};

static inline void ps_sql_words(ps_words *words) {
    static const struct {
        const char *list;
        int number;
    } LISTS[] = {
        {"select", SQL_SELECT}, {"union intersect except minus", SQL_UNION}, {"all any some", SQL_ALL},
        {"distinct distinctrow high_priority sql_no_cache", SQL_DISTINCT}, {"from", SQL_FROM}, {"where", SQL_WHERE},
        {"having", SQL_HAVING}, {"group", SQL_GROUP}, {"order", SQL_ORDER}, {"by", SQL_BY}, {"limit offset", SQL_LIMIT},
        {"into", SQL_INTO}, {"outfile dumpfile", SQL_OUTFILE}, {"insert merge", SQL_INSERT}, {"update", SQL_UPDATE}, {"set", SQL_SET},
        {"delete", SQL_DELETE}, {"drop", SQL_DROP}, {"create", SQL_CREATE}, {"alter", SQL_ALTER}, {"truncate", SQL_TRUNCATE},
        {"table database function view index user trigger schema login role sequence temporary", SQL_OBJECT},
        {"exec execute", SQL_EXEC}, {"declare", SQL_DECLARE}, {"waitfor", SQL_WAITFOR}, {"delay", SQL_DELAY}, {"if", SQL_IF},
        {"case", SQL_CASE}, {"when", SQL_WHEN}, {"then", SQL_THEN}, {"else", SQL_ELSE}, {"end", SQL_END}, {"begin", SQL_BEGIN},
        {"call", SQL_CALL}, {"shutdown", SQL_SHUTDOWN}, {"procedure", SQL_PROCEDURE}, {"analyse analyze", SQL_ANALYSE},
        {"and or xor", SQL_LOGIC}, {"not", SQL_NOT}, {"like rlike regexp ilike glob similar", SQL_LIKE}, {"sounds", SQL_SOUNDS},
        {"between", SQL_BETWEEN}, {"in", SQL_IN}, {"is isnull notnull", SQL_IS}, {"null true false unknown", SQL_LITERAL},
        {"div mod", SQL_DIV}, {"as", SQL_AS}, {"join", SQL_JOIN}, {"values value", SQL_VALUES}, {"replace", SQL_REPLACE},
        {"load", SQL_LOAD}, {"data xml infile", SQL_DATA}, {"grant revoke", SQL_GRANT}, {"collate escape", SQL_COLLATE},
        {"binary", SQL_BINARY}, {"for", SQL_FOR}, {"goto", SQL_GOTO}, {"print", SQL_PRINT}, {"while", SQL_WHILE},
        {"varchar nvarchar varchar2 nchar int integer bigint decimal numeric text datetime signed unsigned", SQL_TYPE},
        {"top", SQL_TOP}, {"exists", SQL_EXISTS}, {"row", SQL_ROW},
        {"information_schema sysobjects syscolumns sysusers sysdatabases sysprocesses sysibm syscat pg_catalog pg_class pg_user "
         "pg_shadow pg_tables pg_database sqlite_master sqlite_schema all_users all_tables all_tab_columns user_tables "
         "user_tab_columns dba_users v$version rdb$database rdb$fields rdb$types rdb$relations msysobjects performance_schema "
         "ctxsys", SQL_SYSTEM},
        {"ascii char chr ord hex unhex bin oct concat concat_ws group_concat string_agg substring substr mid left right length "
         "len char_length bit_length instr locate position lower upper lcase ucase trim ltrim rtrim reverse repeat lpad rpad space "
         "cast convert try_convert coalesce ifnull nullif isnull nvl nvl2 iif elt make_set field find_in_set interval greatest "
         "least count sum avg min max round floor ceil ceiling abs sin cos tan pi exp ln log pow power sqrt rand random sign md5 "
         "sha1 sha sha2 password encode decode compress uncompress aes_encrypt aes_decrypt des_encrypt to_char to_number "
         "to_date now sysdate curdate getdate date_add adddate datediff strcmp quote format version database schema "
         "system_user session_user user_name db_name host_name suser_sname object_id col_name row_count last_insert_id "
         "found_rows connection_id stuff patindex charindex quotename xmltype xmlelement get_host_name regexp_replace "
         "regexp_instr array_to_string unicode soundex json_extract json_keys if", SQL_FUNCTION},
        {"sleep benchmark pg_sleep pg_sleep_for extractvalue updatexml load_file xp_cmdshell xp_dirtree xp_regread xp_fileexist "
         "sp_executesql sp_password sp_oacreate sp_makewebtask openrowset opendatasource openquery randomblob load_extension "
         "generate_series query_to_xml database_to_xml lo_import lo_export pg_read_file pg_ls_dir utl_inaddr utl_http dbms_pipe "
         "dbms_lock dbms_utility dbms_xmlgen dbms_xmlquery dbms_random dbms_java user_lock crypt_key regexp_substring "
         "name_const geometrycollection multipoint polygon multipolygon linestring multilinestring json_storage_size gtid_subset "
         "filetoclob filetoblob httpuritype make_set elt procedure_analyse ora_hash waitfor_delay sys_eval sys_exec", SQL_WEAPON},
        {"current_user current_database current_date current_time current_timestamp localtime localtimestamp utc_date utc_time "
         "utc_timestamp session_user system_user rownum", SQL_CONSTANT},
    };
    for (unsigned i = 0; i < sizeof LISTS / sizeof *LISTS; i++)
        ps_words_add(words, LISTS[i].list, LISTS[i].number);
}

enum {
    SQL_AT_HEAD = 1,    /* the string that was open where the value begins */
    SQL_OPEN_ENDED = 2, /* a string that does not end */
    SQL_DOTTED = 4,
    SQL_CALLS = 8, /* a word with '(' right behind it */
    SQL_UNARY = 16, /* an operator that may stand before an operand */
    SQL_BACK_QUOTED = 32,
    SQL_GLUED = 64, /* no space before it */
    SQL_SCORED = 128, /* a word with _ or $ or a dot: somebody's identifier, not prose */
};

typedef struct {
    uint8_t is, flags;
    uint16_t start, end;
    uint16_t match; /* of '(': the index of its ')', or the number of tokens */
} ps_sql_token;

#define PS_SQL_COMMENT 48 /* longer ones are no spaces */

typedef struct {
    int count;
    int inline_comments; /* that stand where a space would, between words */
    int versioned;       /* comments that the server executes, with a word in them */
    int line_comments;   /* that end, with more behind them */
    int words;           /* tokens that are words */
    ps_sql_token tokens[PS_WINDOW + 2];
} ps_sql;

static inline uint32_t ps_sql_string_end(const ps_text *text, uint32_t at, uint8_t quote, bool *closed) {
    for (; at < text->length; at++) {
        uint8_t c = text->bytes[at];
        if (c == '\\') {
            at++;
        } else if (c == quote) {
            if (at + 1 < text->length && text->bytes[at + 1] == quote) {
                at++;
                continue;
            }
            *closed = true;
            return at + 1;
        }
    }
    *closed = false;
    return text->length;
}

static inline void ps_sql_put(ps_sql *sql, int is, uint32_t start, uint32_t end, int flags) {
    if (sql->count <= PS_WINDOW)
        sql->tokens[sql->count++] = (ps_sql_token){(uint8_t)is, (uint8_t)flags, (uint16_t)start, (uint16_t)end, 0};
}

static inline bool ps_sql_name(uint8_t c) { return ps_in_word(c) || c == '$' || (c >= 0x80 && c != 0xa0); }

static inline uint32_t ps_sql_number_end(const ps_text *text, uint32_t at) {
    const uint8_t *bytes = text->bytes;
    uint32_t n = text->length;
    if (bytes[at] == '0' && at + 2 < n && (bytes[at + 1] | 0x20) == 'x' && ps_hex(bytes[at + 2]) >= 0) {
        for (at += 2; at < n && ps_hex(bytes[at]) >= 0;)
            at++;
        return at;
    }
    while (at < n && ps_is_digit(bytes[at]))
        at++;
    if (at < n && bytes[at] == '.')
        for (at++; at < n && ps_is_digit(bytes[at]);)
            at++;
    if (at + 1 < n && (bytes[at] | 0x20) == 'e') {
        uint32_t e = at + 1 + (bytes[at + 1] == '-' || bytes[at + 1] == '+');
        if (e < n && ps_is_digit(bytes[e]))
            for (at = e; at < n && ps_is_digit(bytes[at]);)
                at++;
    }
    return at;
}

/* A word, what it means, and where it ends. Words joined by dots are one; what a part of them means counts. */
static inline uint32_t ps_sql_word(const ps_words *words, const ps_text *text, uint32_t at, int *is, int *flags) {
    const uint8_t *bytes = text->bytes;
    uint32_t n = text->length;
    *is = SQL_WORD;
    for (;;) {
        uint64_t hash = PS_HASH_START;
        uint32_t start = at;
        for (; at < n && ps_sql_name(bytes[at]); at++) {
            hash = ps_hash_step(hash, bytes[at]);
            if (bytes[at] == '_' || bytes[at] == '$')
                *flags |= SQL_SCORED;
        }
        int part = at - start <= 24 && at > start ? ps_words_get(words, ps_hash_end(hash)) : 0;
        bool more =
            at + 1 < n && bytes[at] == '.' && (ps_sql_name(bytes[at + 1]) || bytes[at + 1] == '.') && !ps_is_digit(bytes[at + 1]);
        bool procedure = at - start > 3 && ((bytes[start] | 0x20) == 'x' || (bytes[start] | 0x20) == 's') &&
                         (bytes[start + 1] | 0x20) == 'p' && bytes[start + 2] == '_';
        if (!(*flags & SQL_DOTTED) && !more) {
            if (part)
                *is = part;
        } else if (part == SQL_SYSTEM && !(*flags & SQL_DOTTED)) {
            *is = part;
        } else if (part == SQL_WEAPON && (*flags & SQL_DOTTED ? procedure : *flags & SQL_SCORED)) {
            *is = part; /* dbms_pipe.receive_message, master..xp_cmdshell; time.sleep and benchmark.run are somebody's code */
        }
        if (!more)
            return at;
        *flags |= SQL_DOTTED;
        at++;
        if (bytes[at] == '.')
            at++;
    }
}

/* Reads the window as SQL. quote: the one that is open where it begins, or 0. */
static inline void ps_sql_read(const ps_words *words, const ps_text *text, uint8_t quote, ps_sql *sql) {
    const uint8_t *bytes = text->bytes;
    uint32_t n = text->length, i = 0, before = 0;
    bool closed, versioned = false;
    sql->count = sql->inline_comments = sql->versioned = sql->line_comments = sql->words = 0;
    if (quote) {
        i = ps_sql_string_end(text, 0, quote, &closed);
        ps_sql_put(sql, SQL_STRING, 0, i, SQL_AT_HEAD | (closed ? 0 : SQL_OPEN_ENDED));
        if (!closed)
            return;
        before = i;
    }
    while (i < n) {
        uint8_t c = bytes[i], next = i + 1 < n ? bytes[i + 1] : 0;
        int glued = i == before ? SQL_GLUED : 0;
        uint32_t start = i;
        if (ps_is_space(c) || c == 0xa0) {
            i++;
            continue;
        }
        if (ps_is_letter(c) || c == '_' || c >= 0x80) {
            int is, flags = glued;
            if (next == '\'' && (c | 0x20) != 's' && (c | 0x20) != 't' && (c | 0x20) != 'd' && (c | 0x20) != 'm' && !glued &&
                ((c | 0x20) == 'n' || (c | 0x20) == 'x' || (c | 0x20) == 'b')) {
                i++; /* n'..', x'..', b'..' are strings */
                continue;
            }
            i = ps_sql_word(words, text, i, &is, &flags);
            if (c == '_' && i < n && (bytes[i] == '\'' || bytes[i] == '"'))
                continue; /* _latin1'..' */
            uint32_t ahead = i;
            while (ahead < n && ps_is_space(bytes[ahead]))
                ahead++;
            if (i < n && bytes[i] == '(')
                flags |= SQL_CALLS;
            else if (is == SQL_WEAPON && ahead < n && bytes[ahead] == '(')
                flags |= SQL_CALLS;
            else if (is != SQL_WORD && i + 1 < n && bytes[i] == '/' && bytes[i + 1] == '*')
                flags |= SQL_CALLS;
            ps_sql_put(sql, is, start, i, flags);
            sql->words++;
            if (versioned && is != SQL_WORD)
                sql->versioned++;
        } else if (ps_is_digit(c) || (c == '.' && ps_is_digit(next))) {
            i = ps_sql_number_end(text, i);
            ps_sql_put(sql, SQL_NUMBER, start, i, glued);
        } else {
            int is = SQL_OTHER, flags = glued;
            i++;
            switch (c) {
            case '\'': case '"':
                i = ps_sql_string_end(text, i, c, &closed);
                is = SQL_STRING;
                if (!closed)
                    flags |= SQL_OPEN_ENDED;
                break;
            case '`':
                while (i < n && bytes[i] != '`')
                    i++;
                i += i < n;
                is = SQL_WORD;
                flags |= SQL_BACK_QUOTED;
                break;
            case '@':
                while (i < n && bytes[i] == '@')
                    i++;
                if (i < n && (bytes[i] == '`' || bytes[i] == '\'' || bytes[i] == '"')) {
                    uint8_t mark = bytes[i++];
                    while (i < n && bytes[i] != mark)
                        i++;
                    i += i < n;
                } else {
                    while (i < n && (ps_sql_name(bytes[i]) || bytes[i] == '.'))
                        i++;
                }
                is = i > start + 1 ? SQL_VARIABLE : SQL_OTHER;
                break;
            case '-':
                is = SQL_OPERATOR;
                flags |= SQL_UNARY;
                if (next != '-')
                    break;
                /* fall through */
            case '#':
                while (i < n && bytes[i] != '\n')
                    i++;
                if (i < n) {
                    sql->line_comments++;
                    continue;
                }
                is = SQL_TAIL;
                break;
            case '/':
                is = SQL_OPERATOR;
                if (next != '*')
                    break;
                i = start + 2;
                if (i < n && bytes[i] == '!') {
                    for (i++; i < n && ps_is_digit(bytes[i]);)
                        i++;
                    versioned = true;
                    continue;
                }
                while (i + 1 < n && !(bytes[i] == '*' && bytes[i + 1] == '/'))
                    i++;
                if (i + 1 < n) {
                    i += 2;
                    if (before == start && i - start < PS_SQL_COMMENT && i < n && !ps_is_space(bytes[i]) &&
                        !memchr(bytes + start + 2, '/', i - start - 3)) /* paths with stars have slashes */
                        sql->inline_comments++;
                    before = i;
                    continue;
                }
                i = n;
                is = SQL_TAIL;
                break;
            case '*':
                if (versioned && next == '/') {
                    i++;
                    versioned = false;
                    continue;
                }
                is = SQL_OPERATOR;
                break;
            case '+': case '~':
                is = SQL_OPERATOR;
                flags |= SQL_UNARY;
                break;
            case '%': case '^': is = SQL_OPERATOR; break;
            case '!':
                if (next == '=' || next == '<' || next == '>') {
                    i++;
                    is = SQL_COMPARE;
                } else {
                    is = SQL_OPERATOR;
                    flags |= SQL_UNARY;
                }
                break;
            case '&':
                is = SQL_OPERATOR;
                if (next == '&') {
                    i++;
                    is = SQL_LOGIC_SIGN;
                }
                break;
            case '|':
                is = SQL_OPERATOR;
                if (next == '|') {
                    i++;
                    is = SQL_BARS;
                }
                break;
            case '<': case '>':
                is = SQL_COMPARE;
                if (next == c) {
                    i++;
                    is = SQL_OPERATOR;
                } else {
                    while (i < n && i < start + 3 && (bytes[i] == '=' || bytes[i] == '>'))
                        i++;
                }
                break;
            case '=':
                is = SQL_COMPARE;
                i += next == '=';
                break;
            case ':':
                is = SQL_COLON;
                if (next == '=') {
                    i++;
                    is = SQL_ASSIGN;
                } else if (next == ':') {
                    for (i++; i < n && ps_in_word(bytes[i]);)
                        i++; /* ::type changes nothing */
                    before = i;
                    continue;
                }
                break;
            case '\\':
                if (next == 'N' || next == 'n') {
                    i++;
                    is = SQL_LITERAL;
                }
                break;
            case '(': is = SQL_OPEN; break;
            case ')': is = SQL_CLOSE; break;
            case ',': is = SQL_COMMA; break;
            case ';': is = SQL_SEMICOLON; break;
            case '{': case '}': is = SQL_BRACE; break;
            default: break;
            }
            ps_sql_put(sql, is, start, i, flags);
        }
        before = i;
    }
}

/* Finds the ')' of each '('; those inside quotes are no tokens, so this is one pass. */
static inline void ps_sql_match(ps_sql *sql) {
    int open = -1; /* the innermost open one; each remembers the one around it in its match */
    for (int i = 0; i < sql->count; i++) {
        ps_sql_token *token = &sql->tokens[i];
        if (token->is == SQL_OPEN) {
            token->match = (uint16_t)(open + 1);
            open = i;
        } else if (token->is == SQL_CLOSE && open >= 0) {
            int around = sql->tokens[open].match - 1;
            sql->tokens[open].match = (uint16_t)i;
            open = around;
        }
    }
    while (open >= 0) {
        int around = sql->tokens[open].match - 1;
        sql->tokens[open].match = (uint16_t)sql->count;
        open = around;
    }
}

#endif
