# The admin endpoint, on a real node.
ab_test(NAME test_admin SOURCES test_admin.c ${CMAKE_SOURCE_DIR}/tests/support/nodes.c ${CMAKE_SOURCE_DIR}/tests/support/sm.c
    LIBS ab_base ab_wal ab_replication ab_transport ab_engine LABELS unit)
ab_test(NAME test_admin_alloc SOURCES test_admin_alloc.c LIBS ab_base ab_wal ab_replication ab_transport ab_engine
    LABELS unit ALLOC)
