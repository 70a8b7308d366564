/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that read the log itself. Each runs on the thread of its request. */
#include "engine/admin/task.h"
#include "wal/walk.h"

#define PROGRESS_MS 100u
/* How often a follower looks for more: well below what a person notices, and reading the streams' ends costs little. */
#define FOLLOW_MS 100u

static void row_entry(ab_out *out, const ab_wal_step *step, uint64_t payload_max)
{
    size_t shown = step->entry.size < payload_max ? step->entry.size : (size_t)payload_max;
    ab_out_begin(out, "entry");
    ab_out_uint(out, "group", step->group);
    ab_out_stream(out, "stream", step->entry.stream);
    ab_out_uint(out, "index", step->entry.index);
    ab_out_uint(out, "hlc", step->entry.hlc);
    ab_out_uint(out, "term", step->entry.term);
    ab_out_uint(out, "size", step->entry.size);
    ab_out_bin(out, "payload", step->entry.payload, shown);
    ab_out_end(out);
}

static void row_fault(ab_out *out, uint64_t group, ab_stream stream, uint64_t first, uint64_t last, int code,
                      const char *what)
{
    ab_out_begin(out, "fault");
    ab_out_uint(out, "group", group);
    ab_out_stream(out, "stream", stream);
    ab_out_uint(out, "first", first);
    ab_out_uint(out, "last", last);
    ab_out_code(out, "code", code);
    ab_out_text(out, "what", what);
    ab_out_end(out);
}

/* Rows up to the end of the walk. @return AB_OK: it is there; AB_ECLOSED: enough; else what went wrong */
static int rows_of_walk(ab_task *t, ab_wal_walk *walk, uint64_t *entries)
{
    const ab_admin_request *r = t->request;
    uint64_t payload_max = r->payload_max < AB_ADMIN_PAYLOAD_MAX ? r->payload_max : AB_ADMIN_PAYLOAD_MAX;
    ab_wal_step step;
    int code = AB_OK;
    while ((r->limit == 0 || *entries < r->limit) && (code = ab_wal_walk_next(walk, &step)) == AB_OK) {
        if (step.code == AB_OK) {
            row_entry(&t->answer->rows, &step, payload_max);
            (*entries)++;
        } else if (step.code != AB_ETRIMMED) { /* that is the log's daily work, while we look */
            row_fault(&t->answer->rows, step.group, step.entry.stream, step.first, step.last, step.code,
                      ab_strerror(step.code));
        }
        if (ab_out_waiting(&t->answer->rows) > AB_ADMIN_GATHER && !ab_answer_flush(t->answer)) {
            return AB_ECLOSED;
        }
    }
    return code == AB_ENOTFOUND ? AB_OK : code == AB_OK ? AB_ECLOSED : code;
}

typedef struct group_search {
    uint64_t group;
    bool found;
} group_search;

static bool look_at_group(void *arg, uint64_t group)
{
    group_search *s = arg;
    s->found = group == s->group;
    return !s->found;
}

/* A group that is not open may have left entries in the log. */
static int know_group(ab_task *t)
{
    group_search s = {.group = t->request->group};
    if (s.group == 0 || ab_task_group_open(t)) {
        return AB_OK;
    }
    int code = ab_wal_groups(ab_node_wal(t->node), look_at_group, &s);
    return code == AB_OK && !s.found ? ab_task_no_group(t) : code;
}

int ab_task_log(ab_task *t)
{
    const ab_admin_request *r = t->request;
    ab_wal_walk_options options = {.group = r->group,
                                   .one_stream = r->one_stream,
                                   .stream = r->stream,
                                   .from = r->from,
                                   .to = r->to,
                                   .newest = r->newest};
    ab_wal_walk *walk;
    uint64_t entries = 0;
    int code = know_group(t);
    code = code == AB_OK ? ab_wal_walk_open(ab_node_wal(t->node), &options, &walk) : code;
    if (code != AB_OK) {
        return code;
    }
    code = rows_of_walk(t, walk, &entries);
    while (code == AB_OK && r->follow) {
        bool wanted = ab_answer_flush(t->answer) && ab_answer_pause(t->answer, FOLLOW_MS);
        code = wanted ? ab_wal_walk_again(walk) : AB_ECLOSED;
        code = code == AB_OK ? rows_of_walk(t, walk, &entries) : code;
    }
    ab_wal_walk_close(walk);
    return code == AB_ECLOSED ? AB_OK : code;
}

typedef struct verification {
    ab_answer *answer;
    uint64_t faults;
    uint64_t kept_back;
    uint64_t blocks;
    uint64_t shown_at;
} verification;

static void row_progress(ab_out *out, uint64_t blocks, uint64_t total)
{
    ab_out_begin(out, "progress");
    ab_out_uint(out, "blocks", blocks);
    ab_out_uint(out, "total", total);
    ab_out_end(out);
}

/* May run inside a transaction of the log: never waits. */
static bool on_verify(void *arg, const ab_wal_fault *fault, uint64_t blocks, uint64_t total)
{
    verification *v = arg;
    v->blocks = blocks;
    if (fault != NULL) {
        v->faults++;
        if (ab_answer_full(v->answer)) {
            v->kept_back++;
        } else {
            row_fault(&v->answer->rows, fault->group, fault->stream, fault->first, fault->last, fault->code,
                      fault->what);
        }
        return ab_answer_push(v->answer);
    }
    uint64_t now = ab_admin_now_ms();
    if (now - v->shown_at >= PROGRESS_MS && !ab_answer_full(v->answer)) {
        v->shown_at = now;
        row_progress(&v->answer->rows, blocks, total);
        return ab_answer_push(v->answer);
    }
    return !ab_answer_cancelled(v->answer);
}

int ab_task_verify(ab_task *t)
{
    verification v = {.answer = t->answer, .shown_at = ab_admin_now_ms()};
    int code = ab_wal_verify(ab_node_wal(t->node), on_verify, &v);
    ab_out *out = &t->answer->rows;
    ab_out_begin(out, "verified");
    ab_out_uint(out, "blocks", v.blocks);
    ab_out_uint(out, "faults", v.faults);
    ab_out_uint(out, "faults_not_shown", v.kept_back);
    ab_out_end(out);
    return v.faults > 0 && code == AB_OK ? AB_ECORRUPT : code;
}
