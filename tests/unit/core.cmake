# The protocol cores: values, messages, events in and actions out, failing allocations.
set(core_libs ab_replication ab_wal ab_base)
ab_test(NAME test_core_values SOURCES test_core_values.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_message SOURCES test_core_message.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_multimaster SOURCES test_core_multimaster.c member_fixture.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_receive SOURCES test_core_receive.c member_fixture.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_retry SOURCES test_core_retry.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_rewind SOURCES test_core_rewind.c rewind_fixture.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_rewind_member SOURCES test_core_rewind_member.c rewind_fixture.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_damage SOURCES test_core_damage.c member_fixture.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_lost SOURCES test_core_lost.c member_fixture.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_standalone SOURCES test_core_standalone.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_alloc SOURCES test_core_alloc.c core_fixture.c LIBS ${core_libs} LABELS unit ALLOC)
ab_test(NAME test_core_folded SOURCES test_core_folded.c fold_fixture.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_fold SOURCES test_core_fold.c fold_fixture.c core_fixture.c LIBS ${core_libs} LABELS unit ALLOC)

# docs/FORMATS.md against the constants of the code.
ab_test(NAME test_formats SOURCES test_formats.c LIBS ${core_libs} LABELS unit)
target_compile_definitions(test_formats PRIVATE FORMATS_MD="${CMAKE_SOURCE_DIR}/docs/FORMATS.md")
