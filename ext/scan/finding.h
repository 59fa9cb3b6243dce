/* What the scanners report: rules by name, and a bounded list of findings.
 *
 * Points follow the custom of rule sets for firewalls: 5 convicts. Rules of level 1 convict alone and are meant to be quiet on
 * ordinary values; those of levels 2 to 4 look at less, say more often something, and only add up. */
#ifndef PENSTOCK_FINDING_H
#define PENSTOCK_FINDING_H

#include <stdint.h>

enum { PS_SQLI, PS_XSS, PS_TRAVERSAL, PS_COMMAND, PS_KINDS };

/*     name                    kind          level points  what it says */
#define PS_RULES(RULE)                                                                                                       \
    RULE(SQL_UNION,            PS_SQLI,      1, 5, "union-select")                                                           \
    RULE(SQL_STACKED,          PS_SQLI,      1, 5, "stacked-statement")                                                      \
    RULE(SQL_CONDITION,        PS_SQLI,      1, 5, "condition")                                                              \
    RULE(SQL_SUBQUERY,         PS_SQLI,      1, 5, "subquery")                                                               \
    RULE(SQL_QUERY,            PS_SQLI,      1, 5, "whole-query")                                                            \
    RULE(SQL_CALL,             PS_SQLI,      1, 5, "telling-function")                                                       \
    RULE(SQL_CASE,             PS_SQLI,      1, 5, "case-when")                                                              \
    RULE(SQL_ORDER,            PS_SQLI,      1, 5, "order-by-number")                                                        \
    RULE(SQL_COMMENT_TAIL,     PS_SQLI,      1, 5, "quote-and-comment")                                                      \
    RULE(SQL_BALANCED,         PS_SQLI,      1, 5, "balanced-quotes")                                                        \
    RULE(SQL_CHANGE,           PS_SQLI,      1, 5, "changing-statement")                                                     \
    RULE(SQL_INTO_FILE,        PS_SQLI,      1, 5, "into-file")                                                              \
    RULE(SQL_SYSTEM,           PS_SQLI,      1, 5, "system-table")                                                           \
    RULE(SQL_VERSIONED,        PS_SQLI,      1, 5, "versioned-comment")                                                      \
    RULE(SQL_SPACED,           PS_SQLI,      1, 5, "comment-as-space")                                                       \
    RULE(SQL_CODE,             PS_SQLI,      1, 5, "procedural-code")                                                        \
    RULE(SQL_WEAK_SELECT,      PS_SQLI,      2, 3, "select-from")                                                            \
    RULE(SQL_WEAK_CONDITION,   PS_SQLI,      2, 3, "weak-condition")                                                         \
    RULE(SQL_WEAK_TAIL,        PS_SQLI,      2, 3, "comment-tail")                                                           \
    RULE(SQL_LONE_CALL,        PS_SQLI,      2, 3, "lone-function")                                                          \
    RULE(SQL_PAIR,             PS_SQLI,      3, 2, "keyword-pair")                                                           \
    RULE(SQL_LOOSE_QUOTE,      PS_SQLI,      4, 1, "loose-quote")                                                            \
    RULE(XSS_TAG,              PS_XSS,       1, 5, "active-tag")                                                             \
    RULE(XSS_HANDLER,          PS_XSS,       1, 5, "event-handler")                                                          \
    RULE(XSS_URL,              PS_XSS,       1, 5, "script-url")                                                             \
    RULE(XSS_STYLE,            PS_XSS,       1, 5, "active-style")                                                           \
    RULE(XSS_MARKUP,           PS_XSS,       1, 5, "active-markup")                                                          \
    RULE(XSS_SCRIPT,           PS_XSS,       1, 5, "script-code")                                                            \
    RULE(XSS_ANY_TAG,          PS_XSS,       2, 2, "any-tag")                                                                \
    RULE(XSS_LONE_CALL,        PS_XSS,       2, 3, "lone-script-call")                                                       \
    RULE(XSS_ANGLE,            PS_XSS,       4, 1, "angle-bracket")                                                          \
    RULE(PATH_CLIMB,           PS_TRAVERSAL, 1, 5, "parent-directory")                                                       \
    RULE(PATH_DOTS,            PS_TRAVERSAL, 1, 5, "dots-and-slashes")                                                       \
    RULE(PATH_FILE,            PS_TRAVERSAL, 1, 5, "sensitive-file")                                                         \
    RULE(PATH_WRAPPER,         PS_TRAVERSAL, 1, 5, "stream-wrapper")                                                         \
    RULE(PATH_NUL,             PS_TRAVERSAL, 1, 5, "nul-before-suffix")                                                      \
    RULE(PATH_BLANK,           PS_TRAVERSAL, 1, 5, "unfilled-file-name")                                                     \
    RULE(PATH_MENTION,         PS_TRAVERSAL, 2, 3, "mentioned-file")                                                         \
    RULE(PATH_ONE_CLIMB,       PS_TRAVERSAL, 2, 3, "one-parent-directory")                                                   \
    RULE(COMMAND_CHAINED,      PS_COMMAND,   1, 5, "chained-command")                                                        \
    RULE(COMMAND_SUBSTITUTED,  PS_COMMAND,   1, 5, "substituted-command")                                                    \
    RULE(COMMAND_PATH,         PS_COMMAND,   1, 5, "program-path")                                                           \
    RULE(COMMAND_SHELL,        PS_COMMAND,   1, 5, "shell-syntax")                                                           \
    RULE(COMMAND_CODE,         PS_COMMAND,   1, 5, "executing-call")                                                         \
    RULE(COMMAND_WEAK,         PS_COMMAND,   2, 3, "weak-chain")                                                             \
    RULE(COMMAND_SIGN,         PS_COMMAND,   4, 1, "shell-sign")

#define PS_RULE_ID(name, kind, level, points, text) PS_##name,
enum { PS_RULES(PS_RULE_ID) PS_RULE_COUNT };
#undef PS_RULE_ID

typedef struct {
    uint8_t kind, level, points;
    const char *name;
} ps_rule;

#define PS_RULE_ROW(name, kind, level, points, text) {kind, level, points, text},
static const ps_rule PS_RULE_TABLE[PS_RULE_COUNT] = {PS_RULES(PS_RULE_ROW)};
#undef PS_RULE_ROW

#define PS_FINDINGS 16
#define PS_CONVICTS 5

typedef struct {
    uint32_t start, end; /* bytes of the value as given */
    uint16_t rule;
} ps_finding;

typedef struct {
    int paranoia, count;
    int points[PS_KINDS];
    ps_finding items[PS_FINDINGS];
} ps_findings;

/* Each rule is told once; what is beyond PS_FINDINGS still counts its points. */
static inline void ps_find(ps_findings *found, int rule, uint32_t start, uint32_t end) {
    const ps_rule *is = &PS_RULE_TABLE[rule];
    if (is->level > found->paranoia)
        return;
    for (int i = 0; i < found->count; i++)
        if (found->items[i].rule == rule)
            return;
    found->points[is->kind] += is->points;
    if (found->count < PS_FINDINGS)
        found->items[found->count++] = (ps_finding){start, end, (uint16_t)rule};
}

static inline int ps_convicted(const ps_findings *found) {
    int points = 0;
    for (int kind = 0; kind < PS_KINDS; kind++)
        points += found->points[kind];
    return points >= PS_CONVICTS;
}

#endif
