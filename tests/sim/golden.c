/* SPDX-License-Identifier: Apache-2.0 */
/* Golden traces: a handful of stories, played without chance, written word by word and compared with what is checked in.
 * One thread. */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#define TRACE_MAX (256u * 1024)

typedef struct scenario {
    const char *name;
    const char *about;
    bool interval;
    void (*play)(world *w);
} scenario;

/* Pieces of stories */

static void pass(world *w, uint64_t ms)
{
    world_run(w, w->now + ms * MS);
}

static void start_all(world *w)
{
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        node_start(&w->nodes[i]);
    }
    pass(w, 100);
}

static void put(world *w, uint32_t node, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        node_write(&w->nodes[node - 1], WRITE_PUT, i);
    }
}

static void kill_node(world *w, uint32_t node)
{
    w->nodes[node - 1].crashing = true;
    node_crash(&w->nodes[node - 1]);
}

static void cut(world *w, uint32_t a, uint32_t b, bool on)
{
    sim_link *link = link_of(w, a - 1, b - 1);
    say(w, on ? "-- the link between n%u and n%u is cut" : "-- the link between n%u and n%u is whole again",
        a, b);
    link->cut[0] = link->cut[1] = on;
}

static void story(world *w, const char *text)
{
    say(w, "-- %s", text);
}

static void end_equal(world *w)
{
    char why[256] = "";
    pass(w, 2000);
    if (!w->failed && !check_converged(w, why, sizeof why)) {
        fail(w, "not equal at the end: %s", why);
    }
    check_final(w);
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        if (w->nodes[i].excused) {
            fail(w, "node %u needs a snapshot", w->nodes[i].id);
        }
    }
    story(w, "all replicas are equal");
}

/* Stories */

static void three_write(world *w)
{
    start_all(w);
    story(w, "all three write at the same time");
    put(w, 1, 2);
    put(w, 2, 1);
    put(w, 3, 3);
    end_equal(w);
}

static void kill_and_return(world *w)
{
    start_all(w);
    put(w, 1, 2);
    pass(w, 50);
    kill_node(w, 2);
    story(w, "n1 and n3 go on writing");
    put(w, 1, 2);
    pass(w, 20);
    put(w, 3, 1);
    pass(w, 200);
    node_start(&w->nodes[1]);
    pass(w, 100);
    put(w, 2, 1);
    end_equal(w);
}

static void lost_tail(world *w)
{
    start_all(w);
    put(w, 1, 1);
    pass(w, 200);
    story(w, "what n1 writes now has reached n2 when n1 is killed, and is not on the disk of n1");
    put(w, 1, 2);
    pass(w, 5);
    kill_node(w, 1);
    pass(w, 100);
    node_start(&w->nodes[0]);
    put(w, 1, 1);
    end_equal(w);
}

static void gap(world *w)
{
    start_all(w);
    w->drop_blocks[0][1] = 1;
    put(w, 1, 1);
    pass(w, 5);
    put(w, 1, 1);
    end_equal(w);
}

static void causal_delete(world *w)
{
    start_all(w);
    cut(w, 1, 3, true);
    story(w, "n1 inserts; n2 sees it and deletes it; n3 hears of the deletion first");
    node_write(&w->nodes[0], WRITE_INSERT, 0);
    pass(w, 30);
    node_write(&w->nodes[1], WRITE_DELETE, 0);
    pass(w, 60);
    cut(w, 1, 3, false);
    end_equal(w);
    if (w->nodes[2].sm.items[0] != 2) {
        fail(w, "the deletion overtook the insertion");
    }
}

static void partition_heals(world *w)
{
    start_all(w);
    cut(w, 1, 3, true);
    cut(w, 2, 3, true);
    put(w, 1, 1);
    put(w, 3, 1);
    pass(w, 150);
    cut(w, 1, 3, false);
    cut(w, 2, 3, false);
    end_equal(w);
}

static void damaged_block(world *w)
{
    start_all(w);
    cut(w, 1, 3, true);
    cut(w, 2, 3, true);
    put(w, 1, 2);
    pass(w, 20);
    put(w, 1, 1);
    pass(w, 15);
    story(w, "n2's copy of the first block rots; n2 is killed before its state machine made it durable");
    disk_find(&w->nodes[1].disk.streams[stream_id(w, w->nodes[0].append.stream)], 1)->bad = true;
    kill_node(w, 2);
    pass(w, 50);
    node_start(&w->nodes[1]);
    pass(w, 200);
    cut(w, 1, 3, false);
    cut(w, 2, 3, false);
    end_equal(w);
}

static void rolled_back(world *w)
{
    disk copy = {0};
    sim_node *n = &w->nodes[0];
    start_all(w);
    put(w, 1, 1);
    pass(w, 30);
    story(w, "an image of n1 is taken; n1 writes on");
    disk_copy(&copy, &n->disk);
    put(w, 1, 1);
    pass(w, 30);
    kill_node(w, 1);
    story(w, "the image is put back, unnoticed, and n1 writes before it has links");
    w->torn[stream_id(w, (ab_stream){1, disk_epoch(&copy)})] = true;
    w->rolled_back = true;
    disk_free(&n->disk);
    n->disk = copy;
    n->disk_lost = true;
    node_start(n);
    put(w, 1, 1);
    pass(w, 150);
    story(w, "what n1 wrote since is there under another name; new writes get through");
    put(w, 1, 1);
    end_equal(w);
}

static const scenario scenarios[] = {
    {"three_write", "three nodes write at once", false, three_write},
    {"kill_and_return", "a node is killed and comes back", false, kill_and_return},
    {"lost_tail", "a lost tail: new epoch, and the tail is fetched back", true, lost_tail},
    {"gap", "a block is lost on the way: the gap is answered", false, gap},
    {"causal_delete", "a deletion waits for the insertion it depends on", false, causal_delete},
    {"partition_heals", "a node is cut off and comes back", false, partition_heals},
    {"damaged_block", "a damaged block is fetched from a peer", false, damaged_block},
    {"rolled_back", "two histories of one stream: the later one is logged again", false, rolled_back},
};

#define SCENARIO_COUNT (sizeof scenarios / sizeof scenarios[0])

static bool play(const scenario *s, FILE *to)
{
    world *w = malloc(sizeof *w);
    const knobs k = {.nodes = 3,
                     .interval = s->interval,
                     .checkpoints = true,
                     .delay_min = MS,
                     .delay_max = MS,
                     .commit_min = 2 * MS,
                     .commit_max = 2 * MS,
                     .interval_ns = 100 * MS,
                     .window_blocks = 8,
                     .window_bytes = 1 << 20,
                     .queue_packets = 64,
                     .max_skew_ms = 1000};
    world_init(w, 1, &k);
    w->trace = to;
    w->golden = true;
    fprintf(to, "%s: %s\n\n", s->name, s->about);
    s->play(w);
    bool held = !w->failed;
    world_free(w);
    free(w);
    return held;
}

static char *read_all(FILE *from)
{
    char *text = calloc(1, TRACE_MAX + 1);
    rewind(from);
    text[fread(text, 1, TRACE_MAX, from)] = '\0';
    return text;
}

static void show_difference(const char *name, const char *expected, const char *got)
{
    unsigned line = 1;
    while (*expected != '\0' && *expected == *got) {
        line += *expected == '\n';
        expected++;
        got++;
    }
    printf("%s: differs from line %u on\n  expected: %.100s\n  got:      %.100s\n", name, line, expected,
           got);
}

static int compare(const scenario *s, const char *path, const char *got, bool update)
{
    FILE *file = fopen(path, update ? "w" : "r");
    if (file == NULL) {
        printf("%s: cannot open %s\n", s->name, path);
        return 1;
    }
    int code = 0;
    if (update) {
        fputs(got, file);
    } else {
        char *expected = read_all(file);
        if (strcmp(expected, got) != 0) {
            show_difference(s->name, expected, got);
            printf("  look at it; if it is meant: sim --golden DIR --update-golden\n");
            code = 1;
        }
        free(expected);
    }
    return fclose(file) == 0 ? code : 1;
}

int golden_run(const char *directory, const char *only, bool update)
{
    int code = 0;
    for (size_t i = 0; i < SCENARIO_COUNT; i++) {
        char path[512];
        if (only != NULL && strcmp(only, scenarios[i].name) != 0) {
            continue;
        }
        FILE *trace = tmpfile();
        if (trace == NULL) {
            return 1;
        }
        if (!play(&scenarios[i], trace)) {
            printf("%s: failed; see sim --scenario %s\n", scenarios[i].name, scenarios[i].name);
            code = 1;
        }
        char *got = read_all(trace);
        fclose(trace);
        snprintf(path, sizeof path, "%s/%s.txt", directory, scenarios[i].name);
        code |= compare(&scenarios[i], path, got, update);
        free(got);
    }
    return code;
}

int golden_print(const char *name)
{
    for (size_t i = 0; i < SCENARIO_COUNT; i++) {
        if (strcmp(name, scenarios[i].name) == 0) {
            return play(&scenarios[i], stdout) ? 0 : 1;
        }
    }
    for (size_t i = 0; i < SCENARIO_COUNT; i++) {
        printf("%-16s %s\n", scenarios[i].name, scenarios[i].about);
    }
    return 2;
}
