# The admin endpoint, on a real node.
ab_test(NAME test_admin SOURCES test_admin.c ${CMAKE_SOURCE_DIR}/tests/support/nodes.c ${CMAKE_SOURCE_DIR}/tests/support/sm.c
    LIBS ab_base ab_wal ab_replication ab_transport ab_engine LABELS unit)
ab_test(NAME test_admin_alloc SOURCES test_admin_alloc.c LIBS ab_base ab_wal ab_replication ab_transport ab_engine
    LABELS unit ALLOC)

# Pieces of the inspector.
ab_test(NAME test_wal_walk SOURCES test_wal_walk.c test_wal_support.c LIBS ab_wal LABELS unit ALLOC)
if(AB_TOOLS)
    set(inspector ${CMAKE_SOURCE_DIR}/tools/anabranch)
    ab_test(NAME test_inspector_text SOURCES test_inspector_text.c ${inspector}/text.c ${inspector}/table.c
        ${inspector}/terminal.c LABELS unit)
endif()
