# Real daemons: HTTP, clusters with kills, and the main job.
if(TARGET anabranchd)
    set(bin ${CMAKE_BINARY_DIR}/bin)
    ab_test(NAME test_http SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_http.c LIBS ab_cluster anabranchd_points TIMEOUT 300
        LABELS system)
    target_compile_definitions(test_http PRIVATE AB_BIN="${bin}")
    add_dependencies(test_http anabranchd)
endif()
