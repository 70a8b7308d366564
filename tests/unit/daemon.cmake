# Tests of anabranchd's own parts; the ones that need a running daemon are in system/.
foreach(test test_lineprotocol test_pack)
    ab_test(NAME ${test} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${test}.c LIBS anabranchd_points)
endforeach()
ab_test(NAME test_store SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_store.c
    LIBS anabranchd_store anabranchd_points ab_base ALLOC TIMEOUT 180)
