/* SQL injection: does what was pasted into a query change what the query is?
 *
 * Each rule looks for one shape in the tokens, and at whether what stands around it can stand there in SQL: prose has the same
 * words, but two of them side by side, and quotes that do not come out even. Operands are skipped by a bounded number of
 * steps, parentheses in one. */
#ifndef PENSTOCK_SQL_H
#define PENSTOCK_SQL_H

#include "finding.h"
#include "sql_tokens.h"

typedef struct {
    const ps_text *text;
    ps_sql *sql;
    ps_findings *found;
    uint8_t quote;
} ps_sql_scan;

/* What an operand is made of. */
enum {
    IS_LITERAL = 1, IS_FUNCTION = 2, IS_CALL = 4, IS_QUERY = 8, IS_NAME = 16, IS_CASE = 32, IS_WEAPON = 64, IS_PAREN = 128,
    IS_VARIABLE = 256, IS_SCORED = 512, IS_STAR = 1024, IS_COMPARED = 2048,
    IS_HARD = IS_LITERAL | IS_FUNCTION | IS_QUERY | IS_CASE | IS_WEAPON,
};
#define PS_SQL_STEPS 24 /* operands of one expression */
#define PS_SQL_DEPTH 4  /* parentheses looked into */

/* Of tokens before the first and behind the last there are none. */
static inline int ps_sql_is(const ps_sql *sql, int i) {
    return (uint32_t)i < (uint32_t)sql->count ? sql->tokens[(uint32_t)i].is : SQL_NONE;
}
static inline int ps_sql_flags(const ps_sql *sql, int i) {
    return (uint32_t)i < (uint32_t)sql->count ? sql->tokens[(uint32_t)i].flags : 0;
}

static inline void ps_sql_find(const ps_sql_scan *scan, int rule, int first, int last) {
    const ps_sql *sql = scan->sql;
    if (last >= sql->count)
        last = sql->count - 1;
    if (first < 0)
        first = 0;
    if (last < first)
        last = first;
    ps_find(scan->found, rule, ps_origin(scan->text, sql->tokens[first].start), ps_origin(scan->text, sql->tokens[last].end));
}

static inline uint8_t ps_sql_byte(const ps_sql_scan *scan, int i) { return scan->text->bytes[scan->sql->tokens[i].start]; }

static int ps_sql_expression(const ps_sql_scan *scan, int i, int depth, int *what);

static inline int ps_sql_past(const ps_sql *sql, int open) {
    int close = sql->tokens[open].match;
    return close < sql->count ? close + 1 : sql->count;
}

/* The index behind the operand at i, or i if there is none. */
static inline int ps_sql_operand(const ps_sql_scan *scan, int i, int depth, int *what) {
    const ps_sql *sql = scan->sql;
    int first = i;
    for (int signs = 0; signs < PS_SQL_STEPS; signs++, i++) {
        int is = ps_sql_is(sql, i);
        if (is == SQL_OPERATOR && ps_sql_flags(sql, i) & SQL_UNARY)
            continue;
        if (is == SQL_NOT || is == SQL_BINARY || is == SQL_DISTINCT || is == SQL_ALL || is == SQL_BRACE)
            continue;
        if ((is == SQL_EXISTS || is == SQL_ROW) && ps_sql_is(sql, i + 1) == SQL_OPEN)
            continue;
        break;
    }
    int is = ps_sql_is(sql, i), flags = ps_sql_flags(sql, i);
    if (is == SQL_NONE)
        return first;
    if (is == SQL_OPEN) {
        int inner = i + 1;
        while (inner < i + PS_SQL_STEPS && ps_sql_is(sql, inner) == SQL_OPEN)
            inner++;
        *what |= IS_PAREN;
        if (ps_sql_is(sql, inner) == SQL_SELECT) {
            *what |= IS_QUERY;
        } else if (depth < PS_SQL_DEPTH) {
            int inside = 0, end = ps_sql_expression(scan, inner, depth + 1, &inside);
            int next = ps_sql_is(sql, end);
            if (end > inner && (next == SQL_CLOSE || next == SQL_COMMA || next == SQL_LOGIC || next == SQL_NONE))
                *what |= inside;
            if (end > inner && next == SQL_COMPARE)
                *what |= inside | IS_COMPARED;
        }
        return ps_sql_past(sql, i);
    }
    if (is == SQL_CASE) {
        int j = i + 1;
        bool when = false;
        for (; j < sql->count && j < i + 100 && sql->tokens[j].is != SQL_END; j++)
            when |= sql->tokens[j].is == SQL_WHEN;
        if (!when)
            return first;
        *what |= IS_CASE;
        return j < sql->count ? j + 1 : j;
    }
    if (is == SQL_STRING || is == SQL_NUMBER || is == SQL_VARIABLE || is == SQL_LITERAL ||
        (is == SQL_CONSTANT && !(flags & SQL_CALLS))) {
        *what |= is == SQL_VARIABLE ? IS_LITERAL | IS_VARIABLE : IS_LITERAL;
        i++;
        while (is == SQL_STRING && ps_sql_is(sql, i) == SQL_STRING && ps_sql_flags(sql, i) & SQL_GLUED)
            i++;
        if (ps_sql_is(sql, i) == SQL_COLLATE)
            i += 2;
        return i < sql->count ? i : sql->count;
    }
    if (is >= SQL_WORD && flags & SQL_CALLS && ps_sql_is(sql, i + 1) == SQL_OPEN) {
        switch (is) {
        case SQL_SELECT: case SQL_UNION: case SQL_FROM: case SQL_WHERE: case SQL_LOGIC: case SQL_HAVING: case SQL_IN: case SQL_BY:
        case SQL_WHEN: case SQL_THEN: case SQL_AS: return first;
        case SQL_WORD: *what |= IS_CALL; break;
        case SQL_WEAPON: *what |= IS_WEAPON; break;
        default: *what |= IS_FUNCTION; break;
        }
        i = ps_sql_past(sql, i + 1);
        return i;
    }
    switch (is) {
    case SQL_WORD: case SQL_OBJECT: case SQL_TYPE: case SQL_FUNCTION: case SQL_SYSTEM: case SQL_WEAPON: case SQL_VALUES:
    case SQL_DATA:
        *what |= IS_NAME;
        if (flags & (SQL_SCORED | SQL_BACK_QUOTED))
            *what |= IS_SCORED;
        return i + 1;
    default: return first;
    }
}

static inline bool ps_sql_joins(int is) { return is == SQL_OPERATOR || is == SQL_DIV || is == SQL_BARS; }

/* Operands joined by arithmetic or concatenation: the index behind them, or i if there are none. */
static int ps_sql_expression(const ps_sql_scan *scan, int i, int depth, int *what) {
    int end = ps_sql_operand(scan, i, depth, what);
    for (int steps = 0; end > i && steps < PS_SQL_STEPS && ps_sql_joins(ps_sql_is(scan->sql, end)); steps++) {
        int next = ps_sql_operand(scan, end + 1, depth, what);
        if (next == end + 1)
            break;
        end = next;
    }
    return end;
}

/* A comparison at i, of one or more words: the index behind it, or i. */
static inline int ps_sql_comparison(const ps_sql *sql, int i) {
    int is = ps_sql_is(sql, i);
    if (is == SQL_NOT || is == SQL_SOUNDS) {
        int next = ps_sql_is(sql, i + 1);
        return next == SQL_LIKE || next == SQL_IN || next == SQL_BETWEEN ? i + 2 : i;
    }
    if (is == SQL_IS)
        return i + 1 + (ps_sql_is(sql, i + 1) == SQL_NOT);
    return is == SQL_COMPARE || is == SQL_LIKE || is == SQL_BETWEEN || is == SQL_IN || is == SQL_ASSIGN ? i + 1 : i;
}

/* May SQL end there, or a clause? */
static inline bool ps_sql_clause_ends(const ps_sql *sql, int i) {
    switch (ps_sql_is(sql, i)) {
    case SQL_NONE: case SQL_TAIL: case SQL_SEMICOLON: case SQL_CLOSE: case SQL_UNION: case SQL_LIMIT: case SQL_ORDER:
    case SQL_GROUP: case SQL_HAVING: case SQL_INTO: case SQL_FOR: case SQL_PROCEDURE: case SQL_WHERE: case SQL_LOGIC:
    case SQL_LOGIC_SIGN: case SQL_BARS: case SQL_WAITFOR: return true;
    default: return false;
    }
}

/* Does the window end as a working injection must: in a comment, or inside the quotes that the query goes on with? */
static inline bool ps_sql_comes_out_even(const ps_sql_scan *scan) {
    int last = scan->sql->count - 1;
    if (last < 1)
        return false;
    int is = scan->sql->tokens[last].is;
    return is == SQL_TAIL || is == SQL_SEMICOLON || (scan->quote && scan->sql->tokens[last].flags & SQL_OPEN_ENDED);
}

/* Is what stands before i the value that the query expected, with its quotes and parentheses closed? */
static inline bool ps_sql_broken_out(const ps_sql_scan *scan, int i) {
    const ps_sql *sql = scan->sql;
    if (i == 0)
        return true;
    while (i > 0 && sql->tokens[i - 1].is == SQL_CLOSE)
        i--;
    if (i == 0)
        return true;
    int is = sql->tokens[i - 1].is;
    if (!scan->quote && ps_sql_is(sql, i - 2) == SQL_COMPARE)
        return false; /* "a < 1 and b > 2" is anybody's */
    return is == SQL_NUMBER || is == SQL_STRING || is == SQL_VARIABLE || is == SQL_LITERAL || (is == SQL_WORD && i == 1);
}

static inline bool ps_sql_same(const ps_sql_scan *scan, int a, int b) {
    const ps_sql_token *x = &scan->sql->tokens[a], *y = &scan->sql->tokens[b];
    uint32_t length = (uint32_t)(x->end - x->start);
    return length == (uint32_t)(y->end - y->start) &&
           memcmp(scan->text->bytes + x->start, scan->text->bytes + y->start, length) == 0;
}

/* AND, OR, WHERE, HAVING and their like at i: is a condition behind it, and not a part of a sentence? */
static inline void ps_sql_condition(const ps_sql_scan *scan, int i) {
    const ps_sql *sql = scan->sql;
    int a = 0, b = 0, left = i + 1, end = ps_sql_expression(scan, left, 0, &a);
    if (end == left)
        return;
    int right = ps_sql_comparison(sql, end), is = ps_sql_is(sql, end);
    bool out = ps_sql_broken_out(scan, i), even = ps_sql_comes_out_even(scan);
    if (right > end) {
        int stop = ps_sql_expression(scan, right, 0, &b);
        if (is == SQL_IN && !(b & (IS_PAREN | IS_FUNCTION)))
            return;
        if (is == SQL_IS && ps_sql_is(sql, right) != SQL_LITERAL)
            return;
        if (stop == right)
            return;
        bool hard_a = a & IS_HARD, hard_b = b & IS_HARD;
        bool named = (a | b) & (IS_NAME | IS_CALL), scored = (a | b) & IS_SCORED;
        if (hard_a && hard_b) {
            bool bare = !scan->quote && !even && !((a | b) & (IS_WEAPON | IS_QUERY | IS_CASE));
            bool sums = ps_sql_is(sql, i - 1) == SQL_NUMBER && ps_sql_is(sql, i - 2) == SQL_COMPARE &&
                        ps_sql_is(sql, i - 3) == SQL_NUMBER; /* 2 + 2 = 4 and 3 + 3 = 6 */
            bool code = is == SQL_COMPARE && sql->tokens[end].end - sql->tokens[end].start > 1 &&
                        ps_sql_byte(scan, right) != '>' && ps_sql_byte(scan, end) != '<' &&
                        ps_sql_byte(scan, end) != '>'; /* ==, != of other languages */
            bool calls = a & b & IS_FUNCTION;
            bool weak = bare && (sums || (!out && (code || calls || is == SQL_IS)));
            ps_sql_find(scan, weak ? PS_SQL_WEAK_CONDITION : PS_SQL_CONDITION, i, stop - 1);
        } else if ((hard_a || hard_b) && named && (out || even) && (even || scored || ps_sql_clause_ends(sql, stop))) {
            bool strong = even ? out || scored || scan->quote : i > 0;
            ps_sql_find(scan, strong ? PS_SQL_CONDITION : PS_SQL_WEAK_CONDITION, i, stop - 1);
        } else if (out && i > 0 && end == left + 1 && stop == right + 1 && is == SQL_COMPARE && ps_sql_same(scan, left, right)) {
            ps_sql_find(scan, PS_SQL_CONDITION, i, stop - 1);
        } else if (out && even && scan->quote) {
            ps_sql_find(scan, PS_SQL_CONDITION, i, stop - 1);
        }
        return;
    }
    bool ends = ps_sql_clause_ends(sql, end);
    if (a & (IS_QUERY | IS_CASE | IS_WEAPON)) {
        ps_sql_find(scan, PS_SQL_CONDITION, i, end - 1);
    } else if (a & IS_FUNCTION && (out || ends)) {
        ps_sql_find(scan, PS_SQL_CONDITION, i, end - 1);
    } else if (a & IS_COMPARED && a & IS_HARD && ends && (out || even)) {
        ps_sql_find(scan, PS_SQL_CONDITION, i, end - 1);
    } else if (a & (IS_LITERAL | IS_CALL) && ends && out && i > 0) {
        int next = ps_sql_is(sql, end), paren = a & IS_PAREN, before = sql->tokens[i].is;
        bool sure = next == SQL_TAIL || (next == SQL_SEMICOLON && end == sql->count - 1 && before != SQL_BARS) ||
                    next == SQL_UNION || (before == SQL_HAVING && (paren || next != SQL_NONE)) ||
                    (scan->quote && (paren || a & IS_VARIABLE || before == SQL_LOGIC_SIGN)) || (paren && a & IS_VARIABLE);
        ps_sql_find(scan, sure ? PS_SQL_CONDITION : PS_SQL_WEAK_CONDITION, i, end - 1);
    }
}

/* SELECT at i. 3: a query wherever it stands; 2: one if SQL stands before it; 1: words that could be one; 0: none. */
static inline int ps_sql_select(const ps_sql_scan *scan, int i, int *last) {
    const ps_sql *sql = scan->sql;
    int all = 0, j = i + 1;
    *last = i;
    for (int items = 0; items < 64; items++) {
        int what = 0, end;
        while (ps_sql_is(sql, j) == SQL_DISTINCT || ps_sql_is(sql, j) == SQL_ALL)
            j++;
        if (ps_sql_is(sql, j) == SQL_TOP && ps_sql_is(sql, j + 1) == SQL_NUMBER) {
            j += 2;
            all |= IS_LITERAL;
        }
        if (ps_sql_is(sql, j) == SQL_OPERATOR && ps_sql_byte(scan, j) == '*') {
            end = j + 1;
            what = IS_STAR;
        } else {
            end = ps_sql_expression(scan, j, 0, &what);
        }
        if (end == j)
            return 0;
        all |= what;
        int right = ps_sql_comparison(sql, end);
        if (right > end) {
            int stop = ps_sql_expression(scan, right, 0, &what);
            if (stop > right)
                end = stop;
        }
        if (ps_sql_is(sql, end) == SQL_AS)
            end += 2;
        else if (ps_sql_is(sql, end) == SQL_WORD &&
                 (ps_sql_is(sql, end + 1) == SQL_FROM || ps_sql_is(sql, end + 1) == SQL_COMMA) && what & (IS_HARD | IS_SCORED))
            end++;
        *last = end - 1;
        j = end;
        if (ps_sql_is(sql, j) != SQL_COMMA)
            break;
        j++;
    }
    bool hard = all & (IS_HARD | IS_SCORED | IS_STAR | IS_CALL);
    if (ps_sql_is(sql, j) == SQL_FROM) {
        int table = 0, end = ps_sql_operand(scan, j + 1, 0, &table);
        if (end == j + 1)
            return 0;
        *last = end - 1;
        bool sure = table & (IS_SCORED | IS_QUERY | IS_PAREN | IS_FUNCTION) || ps_sql_is(sql, j + 1) == SQL_SYSTEM ||
                    ps_sql_flags(sql, j + 1) & SQL_DOTTED;
        if (ps_sql_is(sql, end) == SQL_AS)
            end += 2;
        else if (ps_sql_is(sql, end) == SQL_WORD &&
                 (sure || ps_sql_is(sql, end + 1) == SQL_WHERE || ps_sql_is(sql, end + 1) == SQL_COMMA))
            end++;
        bool follows = ps_sql_clause_ends(sql, end) || ps_sql_is(sql, end) == SQL_COMMA || ps_sql_is(sql, end) == SQL_JOIN;
        if (ps_sql_is(sql, end) == SQL_WHERE && ps_sql_is(sql, end + 1) != SQL_NONE) {
            int what = 0, left = ps_sql_expression(scan, end + 1, 0, &what);
            if (ps_sql_comparison(sql, left) > left || what & IS_HARD)
                return 3;
        }
        if ((hard || sure) && (follows || sure))
            return 3;
        return ps_sql_is(sql, end) == SQL_LIMIT && ps_sql_is(sql, end + 1) == SQL_NUMBER ? 2 : follows ? 1 : 0;
    }
    if (!hard)
        return 0;
    int is = ps_sql_is(sql, j);
    if (i == 0 && all & (IS_VARIABLE | IS_FUNCTION | IS_QUERY | IS_WEAPON | IS_CASE))
        return 3;
    return ps_sql_clause_ends(sql, j) || is == SQL_WORD
               ? (is == SQL_WORD && !(all & (IS_VARIABLE | IS_FUNCTION | IS_QUERY)) ? 1 : 2)
               : 1;
}

/* A statement at i that stands where one can begin; how sure: as ps_sql_select. */
static inline int ps_sql_statement(const ps_sql_scan *scan, int i, int *last) {
    const ps_sql *sql = scan->sql;
    int next = ps_sql_is(sql, i + 1), third = ps_sql_is(sql, i + 2), flags = ps_sql_flags(sql, i + 1);
    *last = i + 1;
    switch (ps_sql_is(sql, i)) {
    case SQL_SELECT: return ps_sql_select(scan, i, last);
    case SQL_INSERT:
        if (next == SQL_INTO && third >= SQL_WORD) {
            for (int j = i + 3; j < sql->count && j < i + 60; j++)
                if (sql->tokens[j].is == SQL_VALUES || sql->tokens[j].is == SQL_SELECT)
                    return 3;
            return ps_sql_flags(sql, i + 2) & SQL_SCORED ? 3 : 1;
        }
        return 0;
    case SQL_UPDATE:
        return next >= SQL_WORD && third == SQL_SET && ps_sql_is(sql, i + 3) >= SQL_WORD && ps_sql_is(sql, i + 4) == SQL_COMPARE
                   ? 3
                   : 0;
    case SQL_DELETE:
        if (next == SQL_FROM && third >= SQL_WORD)
            return ps_sql_is(sql, i + 3) == SQL_WHERE ? 3 : ps_sql_clause_ends(sql, i + 3) ? 2 : 0;
        return next == SQL_WORD && third == SQL_FROM && flags & SQL_SCORED ? 2 : 0;
    case SQL_DROP: case SQL_TRUNCATE: case SQL_ALTER: case SQL_CREATE:
        if (next == SQL_OBJECT && third >= SQL_WORD) {
            if (ps_sql_is(sql, i) == SQL_CREATE || ps_sql_is(sql, i) == SQL_ALTER)
                return ps_sql_is(sql, i + 3) == SQL_WORD ? 1 : 2;
            if (third == SQL_IF || third == SQL_SYSTEM)
                return 3;
            return ps_sql_is(sql, i + 3) == SQL_TAIL                                      ? 3
                   : ps_sql_clause_ends(sql, i + 3) || ps_sql_is(sql, i + 3) == SQL_COMMA ? 2
                                                                                          : 0;
        }
        if (ps_sql_is(sql, i) == SQL_CREATE && next == SQL_LOGIC && third == SQL_REPLACE)
            return 3;
        return next == SQL_WORD && third == SQL_TAIL ? 2 : 0;
    case SQL_EXEC:
        if (next == SQL_WEAPON || next == SQL_VARIABLE || flags & SQL_DOTTED || (flags & SQL_SCORED && third == SQL_STRING))
            return 3;
        if (next == SQL_OPEN || (next == SQL_STRING && !(flags & SQL_GLUED)))
            return 2;
        return next == SQL_AS || (next == SQL_WORD && (flags & SQL_SCORED || third == SQL_STRING || third == SQL_TAIL)) ? 2 : 0;
    case SQL_DECLARE:
        if (next == SQL_VARIABLE)
            return 3;
        return next == SQL_WORD && (third == SQL_TYPE || third == SQL_FUNCTION) ? 2 : 0;
    case SQL_WAITFOR: return next == SQL_DELAY || (next >= SQL_WORD && third == SQL_STRING) ? 3 : 0;
    case SQL_SHUTDOWN: return next == SQL_TAIL || next == SQL_NONE || next == SQL_SEMICOLON ? 2 : 0;
    case SQL_IF: case SQL_WHILE: {
        int what = 0, end = ps_sql_expression(scan, i + 1, 0, &what);
        if (end == i + 1)
            return 0;
        int right = ps_sql_comparison(sql, end), stop = right > end ? ps_sql_expression(scan, right, 0, &what) : end;
        *last = stop - 1;
        return next == SQL_EXISTS || ((right > end || what & IS_COMPARED) && what & IS_HARD) ? 2
               : what & IS_PAREN && what & IS_HARD                                           ? 2
                                                                                             : 0;
    }
    case SQL_BEGIN:
        return next == SQL_DECLARE || next == SQL_GOTO || flags & SQL_CALLS || (next == SQL_WORD && flags & SQL_SCORED) ? 2 : 0;
    case SQL_CALL: return flags & SQL_CALLS ? 2 : 0;
    case SQL_SET: return next == SQL_VARIABLE && (third == SQL_COMPARE || third == SQL_ASSIGN) ? 3 : 0;
    case SQL_GRANT: return next >= SQL_WORD && third >= SQL_WORD;
    case SQL_LOAD: return next == SQL_DATA && (third == SQL_DATA || ps_sql_is(sql, i + 3) == SQL_DATA) ? 3 : 0;
    case SQL_PRINT: return (next == SQL_STRING && !(flags & SQL_GLUED)) || next == SQL_VARIABLE ? 2 : 0;
    case SQL_GOTO:
        if (next != SQL_WORD)
            return 0;
        return third == SQL_TAIL || third == SQL_NONE ? 2 : third == SQL_SELECT || third == SQL_DECLARE || third == SQL_WORD;
    case SQL_WEAPON: case SQL_FUNCTION: return ps_sql_flags(sql, i) & SQL_CALLS ? 2 : 0;
    default: return 0;
    }
}

/* Words that stand where a statement begins. */
static inline void ps_sql_start(const ps_sql_scan *scan, int i) {
    const ps_sql *sql = scan->sql;
    int last, sure = ps_sql_statement(scan, i, &last), is = sql->tokens[i].is, before = ps_sql_is(sql, i - 1);
    if (sure == 0)
        return;
    bool counted = i == 2 && sql->tokens[0].is == SQL_NUMBER; /* a number, and then a statement */
    if (before == SQL_SEMICOLON && (sure >= 2 || scan->quote || counted)) {
        ps_sql_find(scan, PS_SQL_STACKED, i - 1, last);
    } else if (sure == 3) {
        ps_sql_find(scan,
                    is == SQL_SELECT                                           ? PS_SQL_QUERY
                    : is == SQL_DECLARE || is == SQL_EXEC || is == SQL_WAITFOR ? PS_SQL_CODE
                                                                               : PS_SQL_CHANGE,
                    i, last);
    } else if (sure == 2 && is != SQL_FUNCTION && is != SQL_WEAPON && is != SQL_IF &&
               (before == SQL_COLON || before == SQL_STRING || before == SQL_CLOSE || before == SQL_BEGIN || before == SQL_THEN ||
                before == SQL_ELSE)) {
        if (before != SQL_STRING || (scan->quote && is != SQL_SELECT))
            ps_sql_find(scan, is == SQL_SELECT ? PS_SQL_QUERY : PS_SQL_CHANGE, i, last);
    } else {
        ps_sql_find(scan, PS_SQL_WEAK_SELECT, i, last);
    }
}

static inline void ps_sql_union(const ps_sql_scan *scan, int i) {
    const ps_sql *sql = scan->sql;
    int j = i + 1, last;
    bool more = false; /* something between the two that prose would not have */
    for (; j < i + PS_SQL_STEPS; j++) {
        int is = ps_sql_is(sql, j);
        if (is != SQL_ALL && is != SQL_DISTINCT && is != SQL_OPEN && is != SQL_OPERATOR)
            break;
        more |= is != SQL_OPERATOR;
    }
    if (ps_sql_is(sql, j) != SQL_SELECT) {
        if (scan->quote && ps_sql_is(sql, j) == SQL_TAIL && ps_sql_broken_out(scan, i))
            ps_sql_find(scan, PS_SQL_UNION, i, j);
        return;
    }
    int next = ps_sql_is(sql, j + 1), third = ps_sql_is(sql, j + 2);
    bool sure = ps_sql_select(scan, j, &last) > 0 || next == SQL_TAIL || next == SQL_OPEN || next == SQL_VARIABLE || more ||
                next == SQL_NUMBER || next == SQL_STRING || next == SQL_LITERAL || third == SQL_COMMA || third == SQL_OPEN ||
                ps_sql_flags(sql, j + 1) & (SQL_SCORED | SQL_CALLS | SQL_BACK_QUOTED) || sql->inline_comments ||
                (ps_sql_broken_out(scan, i) && i > 0 && next == SQL_NONE) || next == SQL_CONSTANT;
    ps_sql_find(scan, sure ? PS_SQL_UNION : PS_SQL_PAIR, i, last > j ? last : j);
}

/* CASE [x] WHEN a [= b] THEN c, and IF(a = b, ...): conditions by another name. */
static inline void ps_sql_case(const ps_sql_scan *scan, int i) {
    const ps_sql *sql = scan->sql;
    int what = 0, given = 0, end = ps_sql_expression(scan, i + 1, 0, &given);
    if (ps_sql_is(sql, end) != SQL_WHEN)
        return;
    int left = ps_sql_expression(scan, end + 1, 0, &what);
    if (left == end + 1)
        return;
    int right = ps_sql_comparison(sql, left), stop = right > left ? ps_sql_expression(scan, right, 0, &what) : left;
    if (ps_sql_is(sql, stop) != SQL_THEN || !(what & (IS_HARD | IS_COMPARED)))
        return;
    int then = 0, finish = ps_sql_expression(scan, stop + 1, 0, &then);
    if (finish > stop + 1 && then & (IS_HARD | IS_SCORED))
        ps_sql_find(scan, PS_SQL_CASE, i, finish - 1);
}

static inline void ps_sql_call(const ps_sql_scan *scan, int i) {
    const ps_sql *sql = scan->sql;
    int before = ps_sql_is(sql, i - 1), open = i + 1;
    if (ps_sql_is(sql, open) != SQL_OPEN)
        return;
    int past = ps_sql_past(sql, open), what = 0, left = ps_sql_expression(scan, open + 1, 0, &what);
    if (left == open + 1) {
        return;
    }
    int right = ps_sql_comparison(sql, left), other = 0;
    bool compared = right > left && ps_sql_expression(scan, right, 0, &other) > right && what & IS_HARD && other & IS_HARD;
    bool weapon = sql->tokens[i].is == SQL_WEAPON;
    bool within = before == SQL_LOGIC || before == SQL_LOGIC_SIGN || before == SQL_BARS || before == SQL_COMPARE ||
                  before == SQL_OPERATOR || before == SQL_OPEN || before == SQL_COMMA || before == SQL_SELECT ||
                  before == SQL_SEMICOLON || before == SQL_LIKE || before == SQL_THEN || before == SQL_ELSE ||
                  before == SQL_FROM || before == SQL_CASE || before == SQL_WHEN || before == SQL_BY ||
                  (before == SQL_STRING && scan->quote) || (before == SQL_NUMBER);
    bool given = what & (IS_LITERAL | IS_FUNCTION | IS_QUERY | IS_WEAPON | IS_CALL);
    if (weapon && given && (within || compared || ps_sql_flags(sql, i) & SQL_SCORED)) {
        ps_sql_find(scan, PS_SQL_CALL, i, past - 1);
    } else if (compared && sql->tokens[i].is != SQL_WORD && ps_sql_is(sql, right) != SQL_NONE) {
        ps_sql_find(scan, PS_SQL_CALL, i, past - 1);
    } else if (what & IS_VARIABLE && sql->tokens[i].is == SQL_FUNCTION &&
               scan->text->bytes[sql->tokens[left - 1].start + 1] == '@') {
        ps_sql_find(scan, PS_SQL_CALL, i, past - 1);
    } else if (weapon) {
        ps_sql_find(scan, PS_SQL_LONE_CALL, i, past - 1);
    }
}

static inline void ps_sql_order(const ps_sql_scan *scan, int i) {
    const ps_sql *sql = scan->sql;
    if (ps_sql_is(sql, i + 1) != SQL_BY)
        return;
    int what = 0, j = ps_sql_expression(scan, i + 2, 0, &what);
    for (int items = 0; items < 64 && ps_sql_is(sql, j) == SQL_COMMA; items++) {
        int next = ps_sql_expression(scan, j + 1, 0, &what);
        if (next == j + 1)
            break;
        j = next;
    }
    if (j == i + 2)
        return;
    bool out = i > 0 && ps_sql_broken_out(scan, i), ends = ps_sql_clause_ends(sql, j);
    bool tail = ps_sql_is(sql, j) == SQL_TAIL;
    if (what & (IS_QUERY | IS_CASE | IS_WEAPON) || (what & (IS_LITERAL | IS_FUNCTION) && ends && (out || tail)) ||
        (out && tail && scan->quote))
        ps_sql_find(scan, PS_SQL_ORDER, i, j - 1);
    else if (what & IS_LITERAL)
        ps_sql_find(scan, PS_SQL_PAIR, i, j - 1);
}

/* Does the first quote open something rather than close it? So it does in code, in HTML, and in a sentence. */
static inline bool ps_sql_opens(const ps_sql_scan *scan) {
    const uint8_t *bytes = scan->text->bytes;
    uint32_t at = scan->sql->tokens[0].end - 1u, spaces = 0;
    while (spaces < at && ps_is_space(bytes[spaces]))
        spaces++;
    if (spaces == at)
        return false;
    if (at > 1 && strchr("bfrux", bytes[at - 1]) && !ps_in_word(bytes[at - 2]))
        at--; /* b'..' */
    return bytes[at - 1] && strchr(" \t([{=,:<!", bytes[at - 1]);
}

/* A quote, and then nothing but the end of the query. */
static inline void ps_sql_tail(const ps_sql_scan *scan) {
    const ps_sql *sql = scan->sql;
    int i = 1;
    while (ps_sql_is(sql, i) == SQL_CLOSE || ps_sql_is(sql, i) == SQL_SEMICOLON)
        i++;
    if (ps_sql_is(sql, i) != SQL_TAIL)
        return;
    uint32_t at = sql->tokens[i].start, n = scan->text->length;
    uint8_t c = scan->text->bytes[at];
    uint8_t behind = at + 1 + (c != '#') < n ? scan->text->bytes[at + 1 + (c != '#')] : ' ';
    bool glued = sql->tokens[i].flags & SQL_GLUED;
    bool sure = c == '/' || (c == '-' ? !ps_in_word(behind) && behind != '-'
                                      : (ps_is_space(behind) || behind == '+') && (glued || at + 1 == n));
    bool quoted = c == '-' && !glued && n - at > 6; /* "the end" -- somebody */
    sure = sure && !quoted && !ps_sql_opens(scan);
    ps_sql_find(scan, sure ? PS_SQL_COMMENT_TAIL : PS_SQL_WEAK_TAIL, 0, i);
}

/* A number or a variable, and behind it the comment that cuts the query off; nothing else. */
static inline void ps_sql_bare_tail(const ps_sql_scan *scan) {
    const ps_sql *sql = scan->sql;
    int what = 0, first = sql->tokens[0].is, end = ps_sql_expression(scan, 0, 0, &what), last = sql->count - 1;
    if (end == 0 || end != last || sql->tokens[last].is != SQL_TAIL || what & (IS_NAME | IS_CALL))
        return;
    uint32_t start = sql->tokens[last].start, n = scan->text->length;
    while (n > start && ps_is_space(scan->text->bytes[n - 1]))
        n--;
    bool bare = n - start == 2 && (first == SQL_NUMBER || first == SQL_VARIABLE);
    ps_sql_find(scan, bare ? PS_SQL_COMMENT_TAIL : PS_SQL_WEAK_TAIL, 0, last);
}

/* (1=2), or user() = database(): a comparison where a value should be. */
static inline void ps_sql_bare_test(const ps_sql_scan *scan) {
    const ps_sql *sql = scan->sql;
    int i = 0;
    while (i < PS_SQL_STEPS && ps_sql_is(sql, i) == SQL_OPEN)
        i++;
    if (i && ps_sql_is(sql, i) == SQL_NUMBER && ps_sql_is(sql, i + 1) == SQL_COMPARE && ps_sql_is(sql, i + 2) == SQL_NUMBER &&
        ps_sql_is(sql, i + 3) == SQL_CLOSE)
        ps_sql_find(scan, PS_SQL_CONDITION, 0, i + 3);
    int a = 0, b = 0, end = ps_sql_expression(scan, 0, 0, &a), right = ps_sql_comparison(sql, end);
    if (end > 0 && a == IS_FUNCTION && right > end && ps_sql_expression(scan, right, 0, &b) == sql->count && b == IS_FUNCTION)
        ps_sql_find(scan, PS_SQL_CONDITION, 0, sql->count - 1);
}

/* Inside quotes: is the whole an expression that the query's own quote completes? */
static inline void ps_sql_balanced(const ps_sql_scan *scan) {
    const ps_sql *sql = scan->sql;
    int last = sql->count - 1, i = 1, tests = 0, words = 0, signs = 0, operands = 0, unary = 0;
    bool tail = last > 0 && sql->tokens[last].is == SQL_TAIL;
    if (last < 2 || !(tail || sql->tokens[last].flags & SQL_OPEN_ENDED))
        return;
    while (i < last) {
        int is = sql->tokens[i].is, after;
        if (is == SQL_CLOSE) {
            i++;
            continue;
        }
        if (is == SQL_COMPARE && ps_sql_byte(scan, i) == '<' && ps_sql_is(sql, i + 1) == SQL_WORD &&
            ps_sql_is(sql, i + 2) == SQL_COMPARE)
            return; /* "<tag>" */
        if (is == SQL_COMPARE || is == SQL_BARS || is == SQL_LOGIC_SIGN) {
            tests++;
            i++;
        } else if (is == SQL_OPERATOR) {
            signs++;
            i++;
        } else if (is == SQL_LOGIC || is == SQL_DIV) {
            words++;
            i++;
        } else if ((after = ps_sql_comparison(sql, i)) > i) {
            words++;
            i = after;
        } else {
            return;
        }
        int what = 0, end = ps_sql_operand(scan, i, 0, &what);
        if (end == i)
            return;
        if (end <= last && what & (IS_LITERAL | IS_FUNCTION | IS_SCORED))
            operands++;
        if (sql->tokens[i].is == SQL_OPERATOR)
            unary++; /* a sign before an operand, as in "or ~1" */
        i = end;
    }
    if (i != last + !tail)
        return;
    const uint8_t *bytes = scan->text->bytes;
    uint32_t head = sql->tokens[0].end, open = sql->tokens[last].start;
    bool inside_out =
        !tail && head > 1 && !ps_is_space(bytes[head - 2]) && open + 1u < scan->text->length && !ps_is_space(bytes[open + 1]) &&
        sql->tokens[1].flags & sql->tokens[last].flags & SQL_GLUED; /* a'or'b: prose has its spaces outside of quotes */
    bool sure = tests > 0 || (signs + words > 0 && operands > 0) || (words > 0 && (unary > 0 || inside_out)) ||
                (inside_out && last == 2 && (ps_sql_byte(scan, 1) == '+' || ps_sql_byte(scan, 1) == '|'));
    bool listed = !tail && open + 1u < scan->text->length && strchr(":,)];", bytes[open + 1]) && bytes[open + 1];
    if (listed || ps_sql_opens(scan))
        sure = false;
    ps_sql_find(scan, sure ? PS_SQL_BALANCED : PS_SQL_WEAK_CONDITION, 0, last);
}

/* The window in one of the three places where a value can be pasted. */
static inline void ps_sql_look(const ps_words *words, const ps_text *text, uint8_t quote, ps_sql *sql, ps_findings *found) {
    ps_sql_scan scan = {text, sql, found, quote};
    ps_sql_read(words, text, quote, sql);
    if (sql->count < 2)
        return;
    ps_sql_match(sql);
    if (sql->versioned > 0 && sql->words > 0)
        ps_sql_find(&scan, PS_SQL_VERSIONED, 0, sql->count - 1);
    int meaning = 0; /* words of SQL with comments between them */
    for (int i = 0; i < sql->count; i++) {
        int is = sql->tokens[i].is, before = ps_sql_is(sql, i - 1), last;
        if (is > SQL_WORD)
            meaning++;
        switch (is) {
        case SQL_UNION: ps_sql_union(&scan, i); break;
        case SQL_SELECT: case SQL_INSERT: case SQL_UPDATE: case SQL_DELETE: case SQL_DROP: case SQL_CREATE: case SQL_ALTER:
        case SQL_TRUNCATE: case SQL_EXEC: case SQL_DECLARE: case SQL_WAITFOR: case SQL_BEGIN: case SQL_SET: case SQL_LOAD:
        case SQL_PRINT: case SQL_GOTO: case SQL_SHUTDOWN:
            if (is == SQL_SELECT && before == SQL_OPEN && ps_sql_select(&scan, i, &last) >= 2)
                ps_sql_find(&scan, PS_SQL_SUBQUERY, i - 1, last);
            else
                ps_sql_start(&scan, i);
            break;
        case SQL_WHILE: case SQL_CALL: case SQL_GRANT:
            if (before == SQL_SEMICOLON)
                ps_sql_start(&scan, i);
            break;
        case SQL_LOGIC: case SQL_LOGIC_SIGN: case SQL_HAVING: case SQL_WHERE: ps_sql_condition(&scan, i); break;
        case SQL_BARS:
            if (ps_sql_is(sql, i + 1) != SQL_BARS && ps_sql_is(sql, i - 2) != SQL_BARS) /* a chain is looked at from its head */
                ps_sql_condition(&scan, i);
            break;
        case SQL_CASE: ps_sql_case(&scan, i); break;
        case SQL_IF:
            if (before == SQL_SEMICOLON)
                ps_sql_start(&scan, i);
            /* fall through */
        case SQL_FUNCTION: case SQL_WEAPON: case SQL_REPLACE: case SQL_TYPE: case SQL_OBJECT:
            if (before == SQL_SEMICOLON && is == SQL_WEAPON)
                ps_sql_start(&scan, i);
            if (sql->tokens[i].flags & SQL_CALLS)
                ps_sql_call(&scan, i);
            break;
        case SQL_ORDER: case SQL_GROUP: ps_sql_order(&scan, i); break;
        case SQL_INTO:
            if (ps_sql_is(sql, i + 1) == SQL_OUTFILE)
                ps_sql_find(&scan, PS_SQL_INTO_FILE, i, i + 2);
            break;
        case SQL_PROCEDURE:
            if (ps_sql_is(sql, i + 1) == SQL_ANALYSE)
                ps_sql_find(&scan, PS_SQL_CALL, i, i + 2);
            break;
        case SQL_SYSTEM:
            if (before == SQL_FROM || before == SQL_JOIN || before == SQL_INTO ||
                (before == SQL_COMMA && sql->tokens[i].flags & SQL_SCORED))
                ps_sql_find(&scan, PS_SQL_SYSTEM, i - 1, i);
            break;
        default: break;
        }
    }
    if (found->points[PS_SQLI] < PS_CONVICTS) { /* these tell less of what it is for */
        if (quote) {
            ps_sql_tail(&scan);
            ps_sql_balanced(&scan);
        } else {
            ps_sql_bare_tail(&scan);
            ps_sql_bare_test(&scan);
        }
    }
    if (meaning && sql->inline_comments >= 2)
        ps_sql_find(&scan, PS_SQL_SPACED, 0, sql->count - 1);
    if (quote && found->paranoia >= 4)
        ps_sql_find(&scan, PS_SQL_LOOSE_QUOTE, 0, 0);
}

static inline void ps_scan_sql(const ps_words *words, const ps_text *text, uint32_t has, ps_sql *sql, ps_findings *found) {
    if (!(has & (PS_HAS_LETTER | PS_HAS_QUOTE | PS_HAS_DIGIT)))
        return;
    bool single = false, twin = false;
    ps_sql_look(words, text, 0, sql, found);
    if (!(has & PS_HAS_QUOTE))
        return;
    for (uint32_t i = 0; i < text->length; i++) {
        single |= text->bytes[i] == '\'';
        twin |= text->bytes[i] == '"';
    }
    if (single && found->points[PS_SQLI] < PS_CONVICTS)
        ps_sql_look(words, text, '\'', sql, found);
    if (twin && found->points[PS_SQLI] < PS_CONVICTS)
        ps_sql_look(words, text, '"', sql, found);
}

#endif
