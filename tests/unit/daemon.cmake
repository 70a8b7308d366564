# Tests of anabranchd's own parts; the ones that need a running daemon are in system/.
foreach(test test_lineprotocol test_pack)
    ab_test(NAME ${test} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${test}.c LIBS anabranchd_points)
endforeach()
foreach(test test_store test_store_delete test_store_grace)
    ab_test(NAME ${test} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${test}.c ${CMAKE_CURRENT_LIST_DIR}/store_fixture.c
        LIBS anabranchd_store anabranchd_points ab_base ALLOC TIMEOUT 180 LABELS no_tsan) # one thread
endforeach()
ab_test(NAME test_selector SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_selector.c LIBS anabranchd_points ALLOC)
ab_test(NAME test_exposition
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_exposition.c ${CMAKE_SOURCE_DIR}/tools/anabranchd/exposition.c LIBS m ALLOC)
