CREATE POLICY app ON patients TO shop_app, shop_admin USING (true); -- want policy-shows-all
