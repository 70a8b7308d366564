/* SPDX-License-Identifier: Apache-2.0 */
/* Traces for people: codes and messages in words. One thread. */
#include "tests/sim/words.h"

#include "replication/multimaster/message.h"
#include <string.h>

const char *word_of_code(int code)
{
    switch (code) {
#define WORD(name, value, text)                                                                              \
    case name:                                                                                               \
        return text;
        AB_ERROR_LIST(WORD)
#undef WORD
    default:
        return "unknown code";
    }
}

static void append(char *line, size_t size, const char *text)
{
    size_t used = strlen(line);
    snprintf(line + used, size - used, "%s", text);
}

static void have_in_words(const ab_mm_message *message, char *line, size_t size)
{
    size_t offset = 0;
    ab_mm_have have;
    char piece[160];
    append(line, size, (message->flags & AB_MM_FULL) != 0 ? "full have" : "have");
    append(line, size, (message->flags & AB_MM_ASK) != 0 ? " (and you?)" : "");
    while (ab_mm_next_have(message, &offset, &have)) {
        snprintf(piece, sizeof piece, " %u.%u:%llu", have.stream.node, have.stream.epoch,
                 (unsigned long long)have.durable);
        append(line, size, piece);
        if (have.accepted > have.durable) {
            snprintf(piece, sizeof piece, "+%llu", (unsigned long long)(have.accepted - have.durable));
            append(line, size, piece);
        }
        append(line, size, (have.flags & AB_MM_ENDED) != 0 ? " (ended)" : "");
        append(line, size, (have.flags & AB_MM_OVER) != 0 ? " (over)" : "");
        append(line, size, (have.flags & AB_MM_SEEN) != 0 ? " (I know it is over with you)" : "");
        append(line, size, (have.flags & AB_MM_TELL) != 0 ? " (you know?)" : "");
        if (have.rewound != 0) {
            snprintf(piece, sizeof piece, " (after %u)", have.rewound);
            append(line, size, piece);
        }
    }
    ab_mm_folded folded;
    offset = 0;
    while (ab_mm_next_folded(message, &offset, &folded)) {
        snprintf(piece, sizeof piece, " %u up to %u folded (you: %u)", folded.node, folded.epoch,
                 folded.heard);
        append(line, size, piece);
        append(line, size, (folded.flags & AB_MM_TELL) != 0 ? " (you know?)" : "");
    }
}

void say_sealed(world *w, uint32_t node, const sim_block *block)
{
    char line[1024] = "";
    char piece[80];
    if (w->trace == NULL) {
        return;
    }
    for (uint32_t i = 0; i < block->dep_count; i++) {
        snprintf(piece, sizeof piece, "%s%u.%u:%llu", i == 0 ? " after " : " ", block->deps[i].stream.node,
                 block->deps[i].stream.epoch, (unsigned long long)block->deps[i].index);
        append(line, sizeof line, piece);
    }
    say(w, "n%u seals %u.%u:%llu-%llu%s", node, block->stream.node, block->stream.epoch,
        (unsigned long long)block->first, (unsigned long long)block->last, line);
}

static void count(world *w, ab_mm_kind kind)
{
    if (kind == AB_MM_EXPECT) {
        note(w, F_EXPECT);
    } else if (kind == AB_MM_FETCH) {
        note(w, F_FETCH);
    }
}

void say_message(world *w, uint32_t from, uint32_t to, ab_bytes bytes)
{
    static const char *const names[] = {"",        "have",     "expect",  "fetch",
                                        "trimmed", "diverged", "history", "points"};
    ab_mm_message message;
    char line[1024] = "";
    int code = ab_mm_decode(bytes, &message);
    if (code != AB_OK) {
        fail(w, "node %u sends a message that cannot be read", from);
        return;
    }
    count(w, message.kind);
    size_t offset = 0;
    ab_mm_have have;
    while (message.kind == AB_MM_HAVE && ab_mm_next_have(&message, &offset, &have)) {
        if ((have.flags & AB_MM_ENDED) != 0) {
            note(w, F_ENDED);
        }
    }
    if (w->trace == NULL) {
        return;
    }
    if (message.kind == AB_MM_HAVE) {
        have_in_words(&message, line, sizeof line);
    } else {
        snprintf(line, sizeof line, "%s %u.%u:%llu", names[message.kind], message.stream.node,
                 message.stream.epoch, (unsigned long long)message.first);
    }
    say(w, "n%u -> n%u %s", from, to, line);
}
