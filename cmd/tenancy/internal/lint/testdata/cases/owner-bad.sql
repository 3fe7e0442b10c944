ALTER TABLE patients OWNER TO shop_app; -- want owner-changed
