# The inspector: snapshots on directories that nobody has open, and beside live nodes.
if(AB_TOOLS)
    add_executable(inspector_makelog inspector_makelog.c)
    target_link_libraries(inspector_makelog PRIVATE ab_wal ab_base ab_options)
    add_test(NAME inspector_offline COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/inspector ${CMAKE_BINARY_DIR})
    set_tests_properties(inspector_offline PROPERTIES TIMEOUT 120 LABELS system)

    add_test(NAME reference COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/reference ${CMAKE_BINARY_DIR})
    set_tests_properties(reference PROPERTIES TIMEOUT 60 LABELS system)

    pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
    foreach(name live link)
        ab_test(NAME test_inspector_${name} SOURCES test_inspector_${name}.c inspector_fixture.c
            ${CMAKE_SOURCE_DIR}/tests/support/nodes.c ${CMAKE_SOURCE_DIR}/tests/support/sm.c
            LIBS ab_base ab_wal ab_replication ab_transport ab_engine PkgConfig::JANSSON LABELS system)
        target_compile_definitions(test_inspector_${name} PRIVATE ANABRANCH="$<TARGET_FILE:anabranch>")
        add_dependencies(test_inspector_${name} anabranch)
    endforeach()

    # What --json prints against docs/INSPECTOR.md.
    ab_test(NAME test_inspector_schema SOURCES test_inspector_schema.c inspector_fixture.c
        ${CMAKE_SOURCE_DIR}/tests/support/nodes.c ${CMAKE_SOURCE_DIR}/tests/support/sm.c ${CMAKE_SOURCE_DIR}/tests/support/schema.c
        LIBS ab_base ab_wal ab_replication ab_transport ab_engine PkgConfig::JANSSON LABELS system)
    target_compile_definitions(test_inspector_schema PRIVATE ANABRANCH="$<TARGET_FILE:anabranch>"
        MAKELOG="$<TARGET_FILE:inspector_makelog>" INSPECTOR_MD="${CMAKE_SOURCE_DIR}/docs/INSPECTOR.md")
    add_dependencies(test_inspector_schema anabranch inspector_makelog)
endif()
