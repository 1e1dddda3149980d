# SPDX-License-Identifier: GPL-2.0-or-later
# With UMBRA_FAULTS: a second shadow that has the mistakes of tests/attack/cve_faults.c put back, and the client that sets them off.
umbra_shadow(umbra-shadow-faults umbra-runtime)
target_sources(umbra-shadow-faults PRIVATE ${CMAKE_SOURCE_DIR}/tests/attack/cve_faults.c)
target_compile_definitions(umbra-shadow-faults PRIVATE UMBRA_FAULTS)
set_source_files_properties(${CMAKE_SOURCE_DIR}/tests/attack/cve_faults.c PROPERTIES COMPILE_OPTIONS "-fno-lto;-O1")

add_executable(cve-client ${CMAKE_SOURCE_DIR}/tests/attack/cve_client.c ${CMAKE_SOURCE_DIR}/tests/attack/cve_guest.c
	${CMAKE_SOURCE_DIR}/tests/attack/cve_run.c)
target_compile_definitions(cve-client PRIVATE _GNU_SOURCE)
target_compile_options(cve-client PRIVATE -std=gnu11 -Wno-missing-field-initializers)
target_link_libraries(cve-client PRIVATE Threads::Threads)
