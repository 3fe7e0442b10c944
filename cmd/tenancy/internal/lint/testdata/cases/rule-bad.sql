CREATE RULE keep AS ON DELETE TO patients DO INSTEAD NOTHING; -- want rule-on-tenant-table
