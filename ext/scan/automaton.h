/* Which of some thousand literals a text contains, in one pass over it (Aho and Corasick, CACM 1975).
 *
 * Built once, then never changed. All states are rows of one array of 32-bit words, named by where they begin:
 *
 *     head  how many children (PS_DENSE: a full row) | record << 8   what ends here, 0 for nothing
 *     fail  the state of the longest proper suffix, whose row is nearer to the root
 *     full row: the next state for each class of bytes
 *     short row: the children's classes, four to a word, then their states; no child means: go to `fail` and ask again
 *
 * The states next to the root, where ordinary text stays, have full rows. Bytes that no literal has are one class; with
 * `fold`, A to Z and a to z are the same. The beginning and the end of the text are classes too, so a literal may ask for
 * them. A record is {next record, count, ids …}: what ends with this state, then with its suffixes. */
#ifndef PENSTOCK_AUTOMATON_H
#define PENSTOCK_AUTOMATON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PS_LITERALS_MOST 32768
#define PS_LITERAL_MOST 255
#define PS_LITERAL_BYTES_MOST ((size_t)1 << 20)
#define PS_LITERAL_CLASSES 254 /* different bytes, so that classes fit a byte with the two of the text's ends */
#define PS_DENSE 255
#define PS_DENSE_DEPTH 2
#define PS_SPARSE_MOST 4

typedef struct {
    const char *bytes;
    uint32_t count;
    bool begins, ends; /* only at the beginning, at the end of the text */
} ps_literal;

typedef struct {
    uint8_t class_of[256];
    uint32_t classes; /* the last two: the beginning and the end of the text */
    uint32_t literals, start;
    size_t bytes; /* all that the automaton takes */
    const uint32_t *rows, *records;
} ps_automaton;

/* Words that `seen` must have. */
static inline size_t ps_automaton_words(const ps_automaton *automaton) { return ((size_t)automaton->literals + 63) / 64; }

static inline uint32_t ps_automaton_step(const ps_automaton *automaton, uint32_t state, uint32_t class_of) {
    for (;;) { /* ends: `fail` is nearer to the root, and the root has a full row */
        const uint32_t *row = automaton->rows + state;
        uint32_t children = row[0] & 255;
        if (children == PS_DENSE)
            return row[2 + class_of];
        const uint8_t *of = (const uint8_t *)(row + 2);
        for (uint32_t i = 0; i < children; i++)
            if (of[i] == class_of)
                return row[2 + (children + 3) / 4 + i];
        state = row[1];
    }
}

/* The literals in a text, each once, as their numbers in the order they end. Returns how many; stops after `most`.
 * seen: ps_automaton_words words of the caller's. */
static inline size_t ps_automaton_find(
    const ps_automaton *automaton, const char *text, size_t count, uint64_t *seen, uint32_t *hits, size_t most
) {
    uint32_t state = automaton->start;
    size_t found = 0;
    bool clean = false;
    for (size_t at = 0;; at++) { /* ends: after one step more than there are bytes */
        for (uint32_t record = automaton->rows[state] >> 8; record; record = automaton->records[record]) {
            const uint32_t *ids = automaton->records + record + 2;
            for (uint32_t i = 0; i < ids[-1]; i++) {
                uint64_t bit = UINT64_C(1) << (ids[i] & 63);
                if (!clean) {
                    memset(seen, 0, ps_automaton_words(automaton) * sizeof *seen);
                    clean = true;
                }
                if (seen[ids[i] >> 6] & bit)
                    continue;
                seen[ids[i] >> 6] |= bit;
                hits[found++] = ids[i];
                if (found == most)
                    return found;
            }
        }
        if (at > count)
            return found;
        uint32_t class_of = at == count ? automaton->classes - 1 : automaton->class_of[(uint8_t)text[at]];
        state = ps_automaton_step(automaton, state, class_of);
    }
}

/* ---- building ---- */

typedef struct {
    uint32_t child, sibling, fail, row, record, depth, children;
    uint8_t class_of;
} ps_trie_node;

static inline uint8_t ps_fold_byte(uint8_t byte, bool fold) {
    return fold && (uint8_t)(byte - 'A') < 26 ? (uint8_t)(byte | 0x20) : byte;
}

static inline uint32_t ps_trie_child(const ps_trie_node *nodes, uint32_t node, uint32_t class_of) {
    uint32_t child = nodes[node].child; /* 0: none, as the root is nobody's child */
    while (child && nodes[child].class_of != class_of)
        child = nodes[child].sibling;
    return child;
}

static inline uint32_t ps_trie_descend(ps_trie_node *nodes, uint32_t *count, uint32_t node, uint8_t class_of) {
    uint32_t child = ps_trie_child(nodes, node, class_of);
    if (child)
        return child;
    child = (*count)++;
    nodes[child] = (ps_trie_node){.sibling = nodes[node].child, .depth = nodes[node].depth + 1, .class_of = class_of};
    nodes[node].child = child;
    nodes[node].children++;
    return child;
}

/* What is wrong with literals, or NULL. */
static inline const char *ps_literals_fault(const ps_literal *literals, size_t count) {
    size_t total = 0, classes = 0;
    bool used[256] = {false};
    if (count > PS_LITERALS_MOST)
        return "there are more than 32768 literals";
    for (size_t i = 0; i < count; i++) {
        if (literals[i].count == 0 || literals[i].count > PS_LITERAL_MOST)
            return "a literal must have 1 to 255 bytes";
        total += literals[i].count;
        for (uint32_t j = 0; j < literals[i].count; j++)
            used[(uint8_t)literals[i].bytes[j]] = true;
    }
    for (int byte = 0; byte < 256; byte++)
        classes += used[byte];
    if (total > PS_LITERAL_BYTES_MOST)
        return "the literals have more than 1048576 bytes together";
    return classes > PS_LITERAL_CLASSES - 1 ? "the literals have more than 253 different bytes" : NULL;
}

/* Gives the classes, and returns how many there are without the text's ends. */
static inline uint32_t ps_literal_classes(const ps_literal *literals, size_t count, bool fold, uint8_t *class_of) {
    uint32_t classes = 1; /* 0: bytes of no literal */
    memset(class_of, 0, 256);
    for (size_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < literals[i].count; j++) {
            uint8_t byte = ps_fold_byte((uint8_t)literals[i].bytes[j], fold);
            if (class_of[byte] == 0)
                class_of[byte] = (uint8_t)classes++;
        }
    if (fold)
        for (int byte = 'A'; byte <= 'Z'; byte++)
            class_of[byte] = class_of[byte | 0x20];
    return classes;
}

static inline size_t ps_row_words(const ps_trie_node *node, uint32_t classes) {
    bool dense = node->depth <= PS_DENSE_DEPTH || node->children > PS_SPARSE_MOST;
    return 2 + (dense ? classes : (node->children + 3) / 4 + node->children);
}

/* Fills the rows in the order of depth, so that a row's suffixes are there before it. */
static inline void ps_automaton_fill(
    ps_automaton *automaton, const ps_trie_node *nodes, const uint32_t *order, uint32_t count, uint32_t *rows
) {
    for (uint32_t i = 0; i < count; i++) {
        const ps_trie_node *node = &nodes[order[i]];
        uint32_t *row = rows + node->row, fail = nodes[node->fail].row;
        bool dense = node->depth <= PS_DENSE_DEPTH || node->children > PS_SPARSE_MOST;
        row[0] = (dense ? PS_DENSE : node->children) | node->record << 8;
        row[1] = fail;
        if (dense) {
            for (uint32_t of = 0; of < automaton->classes; of++) {
                uint32_t child = ps_trie_child(nodes, order[i], of);
                row[2 + of] = child ? nodes[child].row : i ? ps_automaton_step(automaton, fail, of) : (uint32_t)(row - rows);
            }
            continue;
        }
        uint8_t *of = (uint8_t *)(row + 2);
        uint32_t *to = row + 2 + (node->children + 3) / 4;
        memset(of, 0, (node->children + 3) / 4 * 4);
        for (uint32_t child = node->child, at = 0; child; child = nodes[child].sibling, at++)
            of[at] = nodes[child].class_of, to[at] = nodes[child].row;
    }
}

/* The automaton over `count` literals that ps_literals_fault finds nothing wrong with; NULL when there is not the memory.
 * To be given to free(). */
static inline ps_automaton *ps_automaton_build(const ps_literal *literals, size_t count, bool fold) {
    ps_automaton plan, *made = NULL;
    size_t most = 1, words = 0, records = 1;
    memset(&plan, 0, sizeof plan);
    uint32_t classes = ps_literal_classes(literals, count, fold, plan.class_of);
    plan.classes = classes + 2;
    plan.literals = (uint32_t)count;
    for (size_t i = 0; i < count; i++)
        most += literals[i].count + (size_t)literals[i].begins + literals[i].ends;
    ps_trie_node *nodes = (ps_trie_node *)calloc(most + 1, sizeof *nodes);
    uint32_t *order = (uint32_t *)malloc((most + 1) * sizeof *order);
    uint32_t *last = (uint32_t *)malloc((count + 1) * sizeof *last); /* the node that each literal ends in */
    uint32_t *ending = (uint32_t *)calloc(most + 1, sizeof *ending); /* how many end in each node */
    if (nodes && order && last && ending) {
        uint32_t used = 1, tail = 0;
        for (size_t i = 0; i < count; i++) {
            uint32_t node = literals[i].begins ? ps_trie_descend(nodes, &used, 0, (uint8_t)classes) : 0;
            for (uint32_t j = 0; j < literals[i].count; j++)
                node = ps_trie_descend(nodes, &used, node, plan.class_of[(uint8_t)literals[i].bytes[j]]);
            if (literals[i].ends)
                node = ps_trie_descend(nodes, &used, node, (uint8_t)(classes + 1));
            last[i] = node;
            records += 1 + (ending[node]++ == 0 ? 2 : 0);
        }
        order[tail++] = 0;
        for (uint32_t head = 0; head < tail; head++) { /* ends: every node is put in order once, by its parent */
            uint32_t parent = order[head];
            nodes[parent].row = (uint32_t)words;
            words += ps_row_words(&nodes[parent], plan.classes);
            for (uint32_t child = nodes[parent].child; child; child = nodes[child].sibling) {
                uint32_t fail = nodes[parent].fail, to = 0;
                if (parent)
                    while (!(to = ps_trie_child(nodes, fail, nodes[child].class_of)) && fail) /* ends: nearer to the root */
                        fail = nodes[fail].fail;
                nodes[child].fail = to;
                order[tail++] = child;
            }
        }
        plan.bytes = sizeof plan + (words + records) * sizeof(uint32_t);
        made = (ps_automaton *)calloc(1, plan.bytes);
        if (made) {
            uint32_t *rows = (uint32_t *)(made + 1), *out = rows + words, next = 1;
            for (uint32_t i = 0; i < used; i++) { /* a suffix's record is there before */
                ps_trie_node *node = &nodes[order[i]];
                node->record = nodes[node->fail].record;
                if (ending[order[i]]) {
                    out[next] = node->record, out[next + 1] = 0;
                    node->record = next;
                    next += 2 + ending[order[i]];
                }
            }
            for (size_t i = 0; i < count; i++) {
                uint32_t *record = out + nodes[last[i]].record;
                record[2 + record[1]++] = (uint32_t)i;
            }
            *made = plan;
            made->rows = rows, made->records = out;
            ps_automaton_fill(made, nodes, order, used, rows);
            made->start = ps_automaton_step(made, 0, classes);
        }
    }
    free(nodes), free(order), free(last), free(ending);
    return made;
}

#endif
