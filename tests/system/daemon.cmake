# Real daemons: HTTP, clusters to which something happens, and the main job.
if(TARGET anabranchd)
    pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
    pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
    set(bin ${CMAKE_BINARY_DIR}/bin)
    foreach(test test_grace test_http test_http_clients test_ingest test_metrics test_select test_service test_start)
        ab_test(NAME ${test} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${test}.c ${CMAKE_CURRENT_LIST_DIR}/http_fixture.c
            LIBS ab_cluster anabranchd_points PkgConfig::ZLIB PkgConfig::JANSSON m TIMEOUT 300 LABELS system)
    endforeach()
    ab_test(NAME test_cluster SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_cluster.c
        LIBS ab_cluster anabranchd_points ab_sensor_lines TIMEOUT 600 LABELS system)
    add_test(NAME docs COMMAND ${CMAKE_CURRENT_LIST_DIR}/docs ${CMAKE_BINARY_DIR})
    set_tests_properties(docs PROPERTIES TIMEOUT 300 LABELS "system;no_asan;no_tsan")
    # A program to measure with; the test is that it works.
    add_executable(http_load ${CMAKE_CURRENT_LIST_DIR}/http_load.c)
    target_link_libraries(http_load PRIVATE ab_cluster anabranchd_points PkgConfig::ZLIB ab_options)
    target_compile_definitions(http_load PRIVATE AB_BIN="${bin}")
    add_dependencies(http_load anabranchd)
    add_test(NAME http_load COMMAND http_load --nodes 3 --connections 2 --batch 200 --fields 2 --gzip 1 --seconds 0.3
        --warm-up 0.1)
    set_tests_properties(http_load PROPERTIES TIMEOUT 120 LABELS "system;no_asan;no_tsan")
    # Enough lines for things to happen in the middle of; fewer where each takes longer.
    set(lines 30000)
    set(flood 300000)
    set(points 600000)
    set(growth 4096)
    if(AB_SANITIZE)
        set(points 100000)
        set(growth 1048576) # the sanitizers' own memory grows with everything that was ever touched
        set(lines 12000)
        set(flood 150000)
    endif()
    target_compile_definitions(test_cluster PRIVATE AB_LINES=${lines}u AB_FLOOD=${flood}u)
    target_compile_definitions(test_select PRIVATE AB_POINTS=${points}u AB_GROWTH_KIB=${growth})
    foreach(test test_grace test_http test_http_clients test_ingest test_metrics test_select test_service test_start test_cluster)
        target_compile_definitions(${test} PRIVATE AB_BIN="${bin}")
        add_dependencies(${test} anabranchd)
    endforeach()
endif()
