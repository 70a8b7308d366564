# kill -9 around quarantine. The parent has one thread, each child is killed: nothing for TSan to see.
ab_test(NAME quarantine_crash SOURCES quarantine_crash.c ${CMAKE_SOURCE_DIR}/tests/support/nodes.c
    ${CMAKE_SOURCE_DIR}/tests/support/sm.c LIBS ab_base ab_wal ab_replication ab_transport ab_engine TIMEOUT 600
    LABELS no_tsan)
