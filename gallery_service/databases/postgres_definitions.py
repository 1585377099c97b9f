"""How a PostgreSQL schema's tables, indexes, constraints, triggers and functions are defined, in comparable words."""

from __future__ import annotations

from sqlalchemy import Connection, text

_DEFINITIONS = text(
    """
    SELECT 'column ' || c.relname || '.' || a.attname,
           concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, co.collname,
                     pg_get_expr(d.adbin, d.adrelid))
      FROM pg_class c
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_collation co ON co.oid = a.attcollation
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relnamespace = to_regnamespace(:schema) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT 'constraint ' || conrelid::regclass::text || '.' || conname, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = to_regnamespace(:schema)
    UNION ALL
    SELECT 'index ' || relname, pg_get_indexdef(oid)
      FROM pg_class WHERE relnamespace = to_regnamespace(:schema) AND relkind = 'i'
    UNION ALL
    SELECT 'trigger ' || c.relname || '.' || t.tgname, concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid))
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
     WHERE c.relnamespace = to_regnamespace(:schema) AND NOT t.tgisinternal
    UNION ALL
    SELECT 'rule ' || c.relname || '.' || r.rulename, concat_ws(' ', r.ev_enabled, pg_get_ruledef(r.oid))
      FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
     WHERE c.relnamespace = to_regnamespace(:schema)
    UNION ALL
    SELECT 'function ' || proname, pg_get_functiondef(oid)
      FROM pg_proc WHERE pronamespace = to_regnamespace(:schema) AND prokind = 'f'
    """
)


def definitions(connection: Connection, schema: str) -> dict[str, str]:
    """What is defined, by kind and name.

    Args:
        connection: of the database.
        schema: whose name is left out, so that two schemas can be compared.
    """
    rows = connection.execute(_DEFINITIONS, {"schema": f'"{schema}"'})
    leave_out = (f'"{schema}".', f"{schema}.")
    found = {}
    for name, definition in rows:
        for prefix in leave_out:
            name, definition = name.replace(prefix, ""), definition.replace(prefix, "")
        found[name] = definition
    return found
