# Tests of anabranchd's own parts; the ones that need a running daemon are in system/.
ab_test(NAME test_lineprotocol SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_lineprotocol.c LIBS anabranchd_points)
ab_test(NAME test_store SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_store.c
    LIBS anabranchd_store anabranchd_points ab_base ALLOC TIMEOUT 180)
