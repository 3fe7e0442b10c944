ALTER TABLE patients DISABLE ROW LEVEL SECURITY; -- want isolation-switched-off
