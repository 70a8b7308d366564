# `anabranch report` and `anabranch top` on live nodes.
if(AB_TOOLS)
    foreach(name report top)
        ab_test(NAME test_${name}_live SOURCES test_${name}_live.c ${CMAKE_SOURCE_DIR}/tests/support/nodes.c
            ${CMAKE_SOURCE_DIR}/tests/support/sm.c ${CMAKE_SOURCE_DIR}/tests/support/markup_check.c
            LIBS ab_base ab_wal ab_replication ab_transport ab_engine LABELS system)
        target_compile_definitions(test_${name}_live PRIVATE ANABRANCH="$<TARGET_FILE:anabranch>")
        add_dependencies(test_${name}_live anabranch)
    endforeach()
endif()
