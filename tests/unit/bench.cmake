# The bench: histogram, state machine, writers, options, messages, reference loops, report.
if(AB_TOOLS)
    pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
    set(bench ${CMAKE_SOURCE_DIR}/tools/anabranch)
    ab_test(NAME test_bench_hist SOURCES test_bench_hist.c ${bench}/bench_hist.c LABELS unit)
    ab_test(NAME test_bench_sm SOURCES test_bench_sm.c ${bench}/bench_sm.c ${bench}/bench_sys.c
        LIBS PkgConfig::XXHASH Threads::Threads LABELS unit)
    ab_test(NAME test_bench_writer SOURCES test_bench_writer.c ${bench}/bench_writer.c ${bench}/bench_hist.c
        ${bench}/bench_sys.c LIBS Threads::Threads LABELS unit)
    ab_test(NAME test_bench_opts SOURCES test_bench_opts.c ${bench}/bench_opts.c ${bench}/bench_help.c LIBS ab_base LABELS unit)
    ab_test(NAME test_bench_loop SOURCES test_bench_loop.c ${bench}/bench_loop.c ${bench}/bench_child.c
        ${bench}/bench_crew.c ${bench}/bench_cluster.c ${bench}/bench_proto.c ${bench}/bench_opts.c ${bench}/bench_help.c
        ${bench}/bench_hist.c ${bench}/bench_sys.c ${bench}/bench_tcp.c ${bench}/bench_relay.c
        LIBS ab_base PkgConfig::LMDB Threads::Threads m LABELS unit)
    ab_test(NAME test_bench_relay SOURCES test_bench_relay.c ${bench}/bench_relay.c ${bench}/bench_sys.c
        LIBS Threads::Threads LABELS unit)
    ab_test(NAME test_bench_report SOURCES test_bench_report.c ${bench}/bench_report.c ${bench}/bench_opts.c ${bench}/bench_help.c
        LIBS ab_base PkgConfig::JANSSON m LABELS unit)
endif()
