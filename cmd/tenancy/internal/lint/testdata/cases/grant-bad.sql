GRANT ALL ON patients TO shop_app; -- want grant-truncate
GRANT SELECT, TRUNCATE ON ALL TABLES IN SCHEMA public TO shop_app; -- want grant-truncate
