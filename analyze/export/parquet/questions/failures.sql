-- Which failures does the newest version have that no other had?
-- It takes export --label version=V.
WITH versions AS (SELECT run, started, map_extract_value(labels, 'version') AS version FROM runs),
     newest AS (SELECT max_by(version, started) AS version FROM versions WHERE version IS NOT NULL),
     failed AS (
       SELECT c.name, c.errno, coalesce(c.path, c.fd_path, '') AS file, c.run, v.version = n.version AS is_new
       FROM calls c JOIN versions v ON v.run = c.run JOIN newest n ON v.version IS NOT NULL
       WHERE c.errno IS NOT NULL AND c.errno NOT LIKE 'ERESTART%')
SELECT name, errno, file, count(*) AS calls, count(DISTINCT run) AS runs
FROM failed
GROUP BY name, errno, file
HAVING bool_and(is_new)
ORDER BY runs DESC, calls DESC, name, errno, file
LIMIT 50;
