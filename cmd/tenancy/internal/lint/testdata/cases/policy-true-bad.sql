CREATE POLICY reports ON patients FOR SELECT USING (true); -- want policy-shows-all
