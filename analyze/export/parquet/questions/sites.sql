-- Which lines of code took memory that was never given back?
-- It takes logs with stacks (record -k). What was mapped as long as its process lived counts.
SELECT f.function, f.file, f.line, f.module, count(DISTINCT m.run) AS runs, count(*) AS mappings,
       sum(m.bytes) AS mapped, sum(m.peak_written) AS written
FROM mappings m
JOIN stacks s ON s.run = m.run AND s.stack = m.stack
JOIN frames f ON f.run = s.run AND f.frame = s.frame
WHERE m.unmapped_step IS NULL AND s.site AND m.kind NOT LIKE 'file%'
GROUP BY f.function, f.file, f.line, f.module
ORDER BY written DESC NULLS LAST, mapped DESC, f.function
LIMIT 20;
