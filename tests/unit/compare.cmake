# The clients of tests/compare: what they make of canned answers; no server is needed.
if(AB_TOOLS)
    pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
    set(compare ${CMAKE_SOURCE_DIR}/tests/compare)
    ab_test(NAME test_compare SOURCES test_compare.c ${compare}/bytes.c ${compare}/resp.c ${compare}/nats_text.c
        ${compare}/grpc.c ${compare}/options.c ${compare}/ours.c ${compare}/report.c ${compare}/site.c
        ${CMAKE_SOURCE_DIR}/tools/anabranch/bench_sys.c LIBS PkgConfig::JANSSON m LABELS unit)
endif()
