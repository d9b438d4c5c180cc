-- Which runs were short of memory?
-- Pressure is the part of 10 s in which something waited for memory, in percent. Beside it: the
-- system's major faults during the run, and what of a process was swapped out, in bytes.
SELECT s.run, r.program,
       max(CASE WHEN s.name = 'psi_some_avg10' THEN s.value END) AS some_percent,
       max(CASE WHEN s.name = 'psi_full_avg10' THEN s.value END) AS full_percent,
       max(CASE WHEN s.name = 'vmstat.pgmajfault' THEN s.value END)
         - min(CASE WHEN s.name = 'vmstat.pgmajfault' THEN s.value END) AS major_faults,
       max(CASE WHEN s.name = 'swapped' THEN s.value END) AS swapped
FROM samples s JOIN runs r ON r.run = s.run
GROUP BY s.run, r.program
ORDER BY some_percent DESC NULLS LAST, major_faults DESC NULLS LAST, s.run
LIMIT 50;
