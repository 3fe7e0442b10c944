CREATE MATERIALIZED VIEW totals AS SELECT tenant_id, count(*) FROM patients GROUP BY 1; -- want data-without-role copy-of-rows
REFRESH MATERIALIZED VIEW totals; -- want data-without-role
