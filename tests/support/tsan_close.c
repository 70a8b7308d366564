/* SPDX-License-Identifier: Apache-2.0 */
/* Lets ThreadSanitizer see what libuv closes. Part of every program of a TSan build, of no other.
 *
 * libuv closes descriptors with syscall(SYS_close, fd), past the sanitizer's close(). The sanitizer then takes the next
 * descriptor of that number, opened by another thread, for a second use of the first one: a race that is none. Here that
 * call goes through close(); every other one goes where it would have gone. Any thread. */
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Exported, so that libuv finds it; not instrumented: it may be called before the sanitizer is ready. */
__attribute__((visibility("default"), no_sanitize("thread"))) long syscall(long number, ...)
{
    long args[6];
    va_list list;
    va_start(list, number);
    for (unsigned i = 0; i < 6; i++) {
        args[i] = va_arg(list, long);
    }
    va_end(list);
    if (number == SYS_close) {
        return close((int)args[0]);
    }
    long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return next(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
