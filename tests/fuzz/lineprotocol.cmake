# Line protocol as clients send it, and payloads as peers send them; predicates of exports and deletes.
ab_fuzz(NAME lineprotocol SOURCES lineprotocol.c LIBS anabranchd_points)
ab_fuzz(NAME lineprotocol_payload SOURCES lineprotocol_payload.c LIBS anabranchd_points)
ab_fuzz(NAME lineprotocol_predicate SOURCES lineprotocol_predicate.c LIBS anabranchd_points)
