// The pages and their sections, each with an address: #/page or #/page/section.

export const PAGES = [
  ["home", "Home", []],
  ["data", "Data", []],
  ["models", "Models", [["leaderboard", "Leaderboard"], ["trainings", "Trainings"], ["scoring", "Scoring"], ["aliases", "In use"]]],
  ["decisions", "Decisions", [["customer", "One customer"], ["offers", "Offers"], ["runs", "Runs"], ["experiment", "Experiment"], ["policy", "Policy"]]],
  ["review", "Review", [["queue", "Queue"], ["all", "All arguments"]]],
  ["chats", "Chats", [["talk", "Playground"], ["history", "History"], ["experts", "Experts"]]],
  ["operations", "Operations", [["calls", "Calls"], ["keys", "Keys"], ["members", "Members"], ["limits", "Limits"], ["webhooks", "Webhooks"], ["audit", "Audit log"]]],
];

export const sectionsOf = (page) => PAGES.find(([key]) => key === page)[2];

// The first section is the page itself.
export const sectionAddress = (page, section) => (section === sectionsOf(page)[0][0] ? `#/${page}` : `#/${page}/${section}`);
