/* SPDX-License-Identifier: Apache-2.0 */
/* What both kinds of child processes share, see bench_child.h. Main thread of the child. */
#include "tools/anabranch/bench_child.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int ab_bench_order(struct ab_bench_msg *msg, enum ab_bench_msg_type expected)
{
    enum ab_bench_recv state = ab_bench_receive(STDIN_FILENO, msg, UINT64_MAX, -1);
    return state == AB_BENCH_RECV_OK && msg->type == (uint32_t)expected ? 0 : -1;
}

int ab_bench_answer(enum ab_bench_msg_type type, const void *body, size_t size)
{
    return ab_bench_send(STDIN_FILENO, type, body, size);
}

int ab_bench_fail(const char *format, ...)
{
    char text[AB_BENCH_TEXT_MAX] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ab_bench_answer(AB_BENCH_MSG_ERROR, text, strlen(text) + 1);
    return 1;
}

/* As anabranchd does, for nodes and loops alike: LMDB allocates a commit's pages anew for each and frees them together,
 * and the C library would return them to the system every time. */
static void keep_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

int ab_bench_child_main(void)
{
    struct ab_bench_msg *msg = calloc(1, sizeof *msg);
    if (!msg) {
        return ab_bench_fail("out of memory");
    }
    int code = 1;
    if (ab_bench_order(msg, AB_BENCH_MSG_SETUP) != 0) {
        fputs("anabranch bench: --child is for the bench itself\n", stderr);
    } else if (msg->as.setup.role == AB_BENCH_ROLE_LOOP) {
        keep_memory();
        code = ab_bench_loop_main(&msg->as.setup);
    } else if (msg->as.setup.role == AB_BENCH_ROLE_TCP) {
        code = ab_bench_tcp_main(&msg->as.setup);
    } else {
        if (msg->as.setup.which != AB_BENCH_IDLE) { /* there it is the library's own memory that counts */
            keep_memory();
        }
        code = ab_bench_node_main(&msg->as.setup);
    }
    free(msg);
    return code;
}
