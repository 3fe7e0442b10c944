ALTER TABLE patients OWNER TO shop_owner;
