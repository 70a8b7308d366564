/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor that libuv has closed is opened anew by another thread: ThreadSanitizer has nothing to say (TSan builds
 * only, see tests/support/tsan_close.c). */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

static _Atomic int closed_fd = -1;

/* Relaxed on both sides: for the sanitizer nothing orders this thread after the close, as in a program where the two
 * have nothing to do with each other. */
static void *open_again(void *arg)
{
    (void)arg;
    int fd;
    while ((fd = atomic_load_explicit(&closed_fd, memory_order_relaxed)) < 0) {
    }
    int reused = socket(AF_INET, SOCK_STREAM, 0);
    bool same = reused == fd;
    (void)close(reused);
    return same ? arg : NULL;
}

START_TEST(descriptor_used_anew)
{
    pthread_t thread;
    int mark;
    uv_loop_t loop;
    ck_assert_int_eq(pthread_create(&thread, NULL, open_again, &mark), 0);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    int fd = uv_backend_fd(&loop);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    atomic_store_explicit(&closed_fd, fd, memory_order_relaxed);
    void *result;
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_eq(result, &mark);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tsan-close");
    TCase *tc = tcase_create("descriptors");
    tcase_add_test(tc, descriptor_used_anew);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
