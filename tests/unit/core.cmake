# The protocol cores: values, messages, events in and actions out, failing allocations.
set(core_libs ab_replication ab_wal ab_base)
ab_test(NAME test_core_values SOURCES test_core_values.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_message SOURCES test_core_message.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_multimaster SOURCES test_core_multimaster.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_receive SOURCES test_core_receive.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_damage SOURCES test_core_damage.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_standalone SOURCES test_core_standalone.c core_fixture.c LIBS ${core_libs} LABELS unit)
ab_test(NAME test_core_alloc SOURCES test_core_alloc.c core_fixture.c LIBS ${core_libs} LABELS unit ALLOC)
