# `anabranch report` and `anabranch top` on live nodes, and with failing allocations.
if(AB_TOOLS)
    foreach(name report top)
        ab_test(NAME test_${name}_live SOURCES test_${name}_live.c ${CMAKE_SOURCE_DIR}/tests/support/nodes.c
            ${CMAKE_SOURCE_DIR}/tests/support/sm.c ${CMAKE_SOURCE_DIR}/tests/support/markup_check.c
            LIBS ab_base ab_wal ab_replication ab_transport ab_engine LABELS system)
        target_compile_definitions(test_${name}_live PRIVATE ANABRANCH="$<TARGET_FILE:anabranch>")
        add_dependencies(test_${name}_live anabranch)
    endforeach()

    pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
    pkg_check_modules(NCURSES REQUIRED ncursesw)
    file(GLOB inspector_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tools/anabranch/*.c)
    list(REMOVE_ITEM inspector_sources ${CMAKE_SOURCE_DIR}/tools/anabranch/main.c)
    ab_test(NAME test_screens_alloc SOURCES test_screens_alloc.c ${inspector_sources} ${CMAKE_SOURCE_DIR}/tests/support/nodes.c
        ${CMAKE_SOURCE_DIR}/tests/support/sm.c LIBS ab_base ab_wal ab_replication ab_transport ab_engine anabranchd_points
        anabranchd_keys PkgConfig::JANSSON ${NCURSES_LIBRARIES} m ALLOC LABELS system)
endif()
