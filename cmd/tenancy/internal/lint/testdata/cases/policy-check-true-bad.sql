CREATE POLICY api ON patients FOR INSERT WITH CHECK (true); -- want policy-shows-all
