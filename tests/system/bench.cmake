# `anabranch bench` for real, briefly. Figures are looked at for sanity only: a test is no place to measure
# time. What 10,000 idle groups take is held to its target.
if(TARGET anabranch)
    pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
    ab_test(NAME bench_smoke SOURCES test_bench_smoke.c LIBS PkgConfig::JANSSON LABELS system)
    add_dependencies(bench_smoke anabranch)
    target_compile_definitions(bench_smoke PRIVATE AB_TOOL="$<TARGET_FILE:anabranch>")
endif()
